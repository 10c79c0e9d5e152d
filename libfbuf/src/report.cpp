// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// The handler runs in a process that is about to die: it allocates nothing, takes no lock, and calls
// only what signal-safety(7) allows.

#include "state.hpp"

#include <fbuf/report.hpp>

#include <csignal>
#include <cstring>
#include <unistd.h>

namespace fbuf {

namespace {

// What the handler needs to know. Written once, before the handler is installed.
struct {
	int domain = -1;
	int output = 2;
	std::uint32_t pool = 0;
	std::uintptr_t base = 0;
	std::uint64_t span = 0;
	struct sigaction previous = {};
} reporter;

// One line of text, put together by hand.
class line {
public:
	line& text(const char* words)
	{
		while (*words && used_ < sizeof(buffer_))
			buffer_[used_++] = *words++;
		return *this;
	}
	line& number(std::uint64_t value, unsigned base = 10)
	{
		char digits[24];
		std::size_t n = 0;
		do
			digits[n++] = "0123456789abcdef"[value % base];
		while (value /= base);
		if (base == 16)
			text("0x");
		while (n && used_ < sizeof(buffer_))
			buffer_[used_++] = digits[--n];
		return *this;
	}
	void write(int fd) const { (void)!::write(fd, buffer_, used_); }

private:
	char buffer_[512];
	std::size_t used_ = 0;
};

const char* reason(const fbufs_locate& place)
{
	if (!place.out_fbuf)
		return "no fbuf is there";
	switch (place.out_state) {
	case FBUFS_STATE_SENDING:
	case FBUFS_STATE_SENT:
		return place.out_locked ? "it was sent and is locked until all its receivers release it"
					: "it was sent";
	case FBUFS_STATE_FREE: return "it came home; allocate it before using it";
	case FBUFS_STATE_OWNED: return "memory for the mapping ran out";
	default: return "it is on its way out";
	}
}

void report(std::uintptr_t address)
{
	auto place = sys::sized<fbufs_locate>();
	place.position = FBUFS_POOL_OFFSET(reporter.pool) + (address - reporter.base);
	if (sys::call(reporter.domain, FBUFS_LOCATE, &place) < 0)
		return;
	line words;
	words.text("fbufs: access refused at ").number(address, 16);
	if (place.out_fbuf)
		words.text(": byte ")
			.number(place.position - place.out_first)
			.text(" of fbuf ")
			.number(place.out_fbuf, 16);
	if (place.out_channel)
		words.text(" of channel ").number(place.out_channel);
	words.text(": ").text(reason(place)).text("\n");
	words.write(reporter.output);
}

void on_sigbus(int signal, siginfo_t* info, void* context)
{
	const int saved = errno;
	const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
	if (address >= reporter.base && address - reporter.base < reporter.span)
		report(address);
	errno = saved;
	if (reporter.previous.sa_flags & SA_SIGINFO) {
		reporter.previous.sa_sigaction(signal, info, context);
	} else if (reporter.previous.sa_handler != SIG_DFL && reporter.previous.sa_handler != SIG_IGN) {
		reporter.previous.sa_handler(signal);
	} else {
		// The access is made again on return, and then dies as it would have.
		::signal(signal, SIG_DFL);
	}
}

} // namespace

result<void> report_violations(const domain& which, int fd)
{
	const detail::domain_state& state = *which.state_;
	if (!state.own_base())
		return sys::failure(ENXIO);
	const bool installed = reporter.domain >= 0;
	reporter.output = fd;
	reporter.pool = state.pool();
	reporter.base = reinterpret_cast<std::uintptr_t>(state.own_base());
	reporter.span = state.pool_span();
	reporter.domain = state.fd();
	if (installed)
		return {};
	struct sigaction action = {};
	action.sa_sigaction = on_sigbus;
	action.sa_flags = SA_SIGINFO | SA_NODEFER;
	if (::sigaction(SIGBUS, &action, &reporter.previous) < 0)
		return sys::last_failure();
	return {};
}

} // namespace fbuf
