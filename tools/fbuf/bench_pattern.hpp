// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// Who sends to whom, and what is measured of it.
#pragma once

#include "bench_latency.hpp"
#include "bench_link.hpp"
#include "bench_observer.hpp"

#include <optional>
#include <string>
#include <vector>

namespace bench {

// stream: one way. pingpong: there and back. fan-N: to N receivers. pipeline-N: through N processes.
// many-N: from N senders to one receiver.
struct measurement {
	std::string mechanism;
	std::string pattern;
	shape of;
	std::uint64_t messages;
	// Send as many twice more: to see what explains the figure, and, under load, how long each takes.
	bool explain = false;
};

struct outcome {
	double ns = 0; // a message
	std::uint64_t messages = 0;
	effort consumer; // what the module counted while that was measured
	// Of half a round trip; else from before a message is produced until a receiver has checked it.
	std::optional<latencies> latency;
	std::optional<explanation> explained;
	std::optional<effort> caused; // by both sides, while it was explained
};

std::span<const char* const> patterns();
// Throws tool::failure when a process failed or a message was not what was sent.
outcome measure(const measurement& what);

} // namespace bench
