// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "bench_observer.hpp"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace bench {

namespace {

constexpr std::size_t sample_room = 1 << 18;
// A prime, so that it does not keep step with the messages. Shorter, and it would be nothing but samples.
constexpr std::uint64_t sample_distance_ns = 20'011;

perf_event_attr attributes(std::uint32_t type, std::uint64_t config)
{
	perf_event_attr attr = {};
	attr.size = sizeof(attr);
	attr.type = type;
	attr.config = config;
	attr.disabled = 1;
	attr.inherit = 1;
	return attr;
}

// As a user without privileges, of the program alone.
descriptor open_event(perf_event_attr attr, int processor)
{
	const auto open = [&] {
		return static_cast<int>(::syscall(SYS_perf_event_open, &attr, 0, processor, -1, PERF_FLAG_FD_CLOEXEC));
	};
	descriptor fd(open());
	if (fd.fd() >= 0 || (errno != EACCES && errno != EPERM) || attr.type != PERF_TYPE_HARDWARE)
		return fd;
	attr.exclude_kernel = 1;
	return descriptor(open());
}

// Pages that the whole system has allocated so far.
std::uint64_t pages_allocated()
{
	std::ifstream file("/proc/vmstat");
	std::string name;
	std::uint64_t value = 0;
	std::uint64_t sum = 0;
	while (file >> name >> value)
		if (name.starts_with("pgalloc_"))
			sum += value;
	return sum;
}

} // namespace

observer::observer()
{
	watch("switches", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CONTEXT_SWITCHES);
	watch("faults", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS);
	watch("cycles", PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES);
	watch("instructions", PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS);
	watch("cache_misses", PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_MISSES);
	watch_tracepoint("syscalls", "raw_syscalls/sys_enter");
	// But for those that a change of processes makes.
	watch_tracepoint("tlb_flushes", "tlb/tlb_flush", "reason != 0");
	sample();
}

observer::~observer() = default;

void observer::watch(const char* name, std::uint32_t type, std::uint64_t config, const char* filter)
{
	event made{name, open_event(attributes(type, config), -1)};
	const bool good =
		made.fd.fd() >= 0 && (!filter || ::ioctl(made.fd.fd(), PERF_EVENT_IOC_SET_FILTER, filter) == 0);
	if (good)
		events_.push_back(std::move(made));
	else
		missing_.push_back(std::string(name) + ": " + std::strerror(errno));
}

void observer::watch_tracepoint(const char* name, const char* point, const char* filter)
{
	std::uint64_t number = 0;
	std::ifstream file(std::string("/sys/kernel/tracing/events/") + point + "/id");
	if (file >> number)
		watch(name, PERF_TYPE_TRACEPOINT, number, filter);
	else
		missing_.push_back(std::string(name) + ": /sys/kernel/tracing cannot be read");
}

// Where the processors are while they are the watched processes': in the kernel or not.
void observer::sample()
{
	perf_event_attr attr = attributes(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK);
	attr.sample_period = sample_distance_ns;
	const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
	for (int processor = 0; processor < ::sysconf(_SC_NPROCESSORS_ONLN); processor++) {
		sampler made{open_event(attr, processor), nullptr};
		if (made.fd.fd() < 0) {
			missing_.push_back(std::string("user and kernel: ") + std::strerror(errno));
			samplers_.clear();
			return;
		}
		made.records =
			std::make_unique<mapping>(page + sample_room, PROT_READ | PROT_WRITE, MAP_SHARED, made.fd.fd());
		samplers_.push_back(std::move(made));
	}
}

void observer::control(unsigned long request)
{
	for (const auto& each : events_)
		(void)::ioctl(each.fd.fd(), request, 0);
	for (const auto& each : samplers_)
		(void)::ioctl(each.fd.fd(), request, 0);
}

void observer::begin()
{
	memory_->allocated_before = pages_allocated();
	control(PERF_EVENT_IOC_ENABLE);
}

void observer::end()
{
	control(PERF_EVENT_IOC_DISABLE);
	memory_->allocated_after = pages_allocated();
}

explanation observer::result() const
{
	explanation all;
	for (const auto& each : events_) {
		std::uint64_t value = 0;
		if (::read(each.fd.fd(), &value, sizeof(value)) == sizeof(value))
			all.counts[each.name] = value;
	}
	all.counts["pages"] = memory_->allocated_after - memory_->allocated_before;
	for (const auto& each : samplers_) {
		const auto bytes = each.records->bytes();
		const auto* const head = reinterpret_cast<const perf_event_mmap_page*>(bytes.data());
		const std::size_t page = bytes.size() - sample_room;
		// What does not fit is not written: the first samples are as good as any.
		for (std::uint64_t at = 0; at < head->data_head;) {
			perf_event_header header;
			std::memcpy(&header, bytes.data() + page + at, sizeof(header));
			if (header.type == PERF_RECORD_SAMPLE)
				((header.misc & PERF_RECORD_MISC_CPUMODE_MASK) == PERF_RECORD_MISC_USER
					 ? all.samples_user
					 : all.samples_kernel)++;
			at += header.size;
		}
	}
	return all;
}

} // namespace bench
