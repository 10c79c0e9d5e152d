// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// capture_frames [FRAMES [BYTES [HZ [PLANES]]]]: frames of the sample camera, checked where they lie; a plane of a
// frame has BYTES, and is a slice of its message.
#include "driver.hpp"

namespace {

bool is_whole(const fbuf::message& message)
{
	const auto* frame = reinterpret_cast<const fbufs_frame*>(message.data().data());
	if (frame->sequence != message.cookie() || frame->bytes != message.length() || !message.locked())
		return false;
	std::size_t before = 0;
	for (const fbuf::slice& plane : message.slices()) {
		const auto* words = reinterpret_cast<const std::uint64_t*>(plane.data.data());
		for (std::size_t i = before ? 0 : sizeof(*frame) / 8; i < plane.data.size() / 8; i++)
			if (words[i] != fbufs_frame_word(frame->sequence, before + i))
				return false;
		before += plane.data.size() / 8;
	}
	return before == frame->bytes / 8;
}

} // namespace

int main(int argc, char** argv)
{
	const unsigned long frames = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 100;
	const auto bytes = static_cast<std::uint32_t>(argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 16384);
	const unsigned long rate = argc > 3 ? std::strtoul(argv[3], nullptr, 10) : 100;
	const auto planes = static_cast<std::uint32_t>(argc > 4 ? std::strtoul(argv[4], nullptr, 10) : 1);

	examples::program me(64 << 20);
	examples::driver camera("camera");
	fbufs_sample_start args = me.wanted(bytes, 8 * planes);
	args.planes = planes;
	args.period = 1'000'000'000 / rate;
	camera.start(args);
	unsigned long broken = 0;
	for (unsigned long i = 0; i < frames; i++) {
		const fbuf::message message = examples::checked(me.receiver.receive(), "receive");
		broken += !is_whole(message);
	}
	camera.stop();
	const fbufs_sample_status status = camera.status();
	std::printf("%lu frames of %u bytes in %u planes, %lu broken; the camera made %llu and dropped %llu\n", frames,
		    planes * bytes, planes, broken, status.done, status.dropped);
	return broken ? 1 : 0;
}
