// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// What explains a figure: the kernel's counters and perf events, see perf_event_open(2).
#pragma once

#include "bench_run.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace bench {

// Sums over all processes that are watched, by name. What this machine does not count is not there.
struct explanation {
	std::map<std::string, std::uint64_t> counts;
	std::uint64_t samples_user = 0; // of the processor, taken at equal distances: where it was
	std::uint64_t samples_kernel = 0;
};

// Watches the processes that are forked after it was made, when one of them begins and until it ends.
class observer {
public:
	observer();
	~observer();
	observer(const observer&) = delete;
	void begin();
	void end();
	// In the process that made it.
	[[nodiscard]] explanation result() const;
	// What is not counted here, and why: for people.
	[[nodiscard]] const std::vector<std::string>& missing() const { return missing_; }

private:
	struct event {
		std::string name;
		descriptor fd;
	};
	struct sampler {
		descriptor fd;
		std::unique_ptr<mapping> records;
	};
	struct memory {
		std::uint64_t allocated_before = 0, allocated_after = 0;
	};

	void watch(const char* name, std::uint32_t type, std::uint64_t config, const char* filter = nullptr);
	void watch_tracepoint(const char* name, const char* point, const char* filter = nullptr);
	void sample();
	void control(unsigned long request);

	std::vector<event> events_;
	std::vector<sampler> samplers_;
	std::vector<std::string> missing_;
	shared_memory<memory> memory_;
};

} // namespace bench
