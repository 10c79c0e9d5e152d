// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "bench_latency.hpp"

#include <algorithm>

namespace bench {

latencies quantiles_of(std::span<std::uint64_t> took)
{
	std::ranges::sort(took);
	const auto quantile = [&](std::size_t thousandths) { return took[(took.size() - 1) * thousandths / 1000]; };
	return {quantile(500), quantile(990), quantile(999), took.back(), took.size()};
}

journeys::journeys(std::uint64_t messages, unsigned batch, unsigned sources, unsigned receivers)
	: messages_(messages), batch_(batch), batches_((messages + batch - 1) / batch), sources_(sources),
	  memory_(sources * (batches_ + receivers * messages) * sizeof(std::uint64_t), PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_ANONYMOUS)
{
}

void journeys::prepare() const
{
	// No fault shall be part of a figure. Where the kernel is too old for that, a few are.
	(void)::madvise(memory_.bytes().data(), memory_.bytes().size(), MADV_POPULATE_WRITE);
}

void journeys::depart(unsigned source, std::uint64_t message) const
{
	sent()[source * batches_ + message / batch_] = now_ns();
}

void journeys::arrive(unsigned receiver, unsigned source, std::uint64_t message, unsigned count) const
{
	const std::uint64_t now = now_ns();
	const auto own = took().subspan((receiver * sources_ + source) * messages_, messages_);
	for (const std::uint64_t end = message + count; message < end; message++)
		own[message] = now - sent()[source * batches_ + message / batch_];
}

latencies journeys::result() const
{
	return quantiles_of(took());
}

std::span<std::uint64_t> journeys::words() const
{
	const auto bytes = memory_.bytes();
	return {reinterpret_cast<std::uint64_t*>(bytes.data()), bytes.size() / sizeof(std::uint64_t)};
}

} // namespace bench
