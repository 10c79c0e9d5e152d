// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// Operations on descriptors.

#include "fault/fail_nth.hpp"

namespace {

using namespace uapi;

// One call of FBUFS_IO that submits one operation; its arrays are there before.
struct IoCall {
	fbufs_io_op op = {};
	std::vector<fbufs_slice> slices;
	std::vector<fbufs_completion> completions = std::vector<fbufs_completion>(4);
	std::vector<fbufs_slice> where = std::vector<fbufs_slice>(64);
	fbufs_io args = {};

	long run(int domain)
	{
		args.size = sizeof(args);
		args.ops = address(&op);
		args.nops = 1;
		args.slices = address(slices.data());
		args.nslices = static_cast<std::uint32_t>(slices.size());
		args.completions = address(completions.data());
		args.out_slices = address(where.data());
		args.room = 4;
		args.slices_room = 64;
		return call(domain, FBUFS_IO, args);
	}
};

// The operation ends, by itself or because it is given up, one way or the other.
void expect_ends(int domain, IoCall& io, long submitted)
{
	expect_memory_error(submitted);
	if (submitted != 1)
		return;
	fbufs_completion done = io.completions[0];
	if (io.args.out_completed == 0) {
		if (!polls(domain, POLLIN, 1000))
			(void)cancel(domain, io.op.cookie);
		done = finish_one(domain);
	}
	EXPECT_EQ(done.cookie, io.op.cookie);
	expect_error_in(static_cast<long>(done.result), {ENOMEM, EFAULT, ENOBUFS, ECANCELED, EAGAIN, EMSGSIZE});
	if (done.message) {
		EXPECT_EQ(handles(domain, FBUFS_RELEASE, {done.message}), 1);
	}
}

struct IoScene : Pool {
	Ends ends;
	IoCall io;
	explicit IoScene(Ends made) : ends(std::move(made)) {}
};

class FailNthIo : public FailNth, public testing::WithParamInterface<Kind> {};

TEST_P(FailNthIo, Write)
{
	struct Scene : IoScene {
		fbufs_buffer buffer = actor.filled(2 * page);
		explicit Scene(std::uint32_t flags) : IoScene(GetParam().make())
		{
			io.op = write_op(ends.in, 7, 1, flags);
			io.slices = {slice_of(buffer.fbuf, 100, page)};
		}
	};
	for (const std::uint32_t flags : {0U, FBUFS_IO_GIVE})
		EXPECT_GT(sweep([=] { return Scene(flags); },
				[](Scene& scene) { return scene.io.run(scene.actor.domain); },
				[=](Scene& scene, long result) {
					// What was accepted comes home when nobody can read it any more.
					scene.ends.out.reset();
					scene.ends.in.reset();
					expect_ends(scene.actor.domain, scene.io, result);
					if (!flags) {
						EXPECT_TRUE(scene.actor.becomes(scene.buffer, FBUFS_STATE_OWNED));
					}
				}),
			  2u);
}

TEST_P(FailNthIo, Read)
{
	struct Scene : IoScene {
		Scene() : IoScene(GetParam().make())
		{
			const Bytes data = pattern(page);
			EXPECT_EQ(::write(ends.in, data.data(), data.size()), static_cast<ssize_t>(data.size()));
			EXPECT_TRUE(polls(ends.out, POLLIN, 1000));
			io.op = read_op(ends.out, 2 * page, 7);
		}
	};
	EXPECT_GT(sweep([] { return Scene(); }, [](Scene& scene) { return scene.io.run(scene.actor.domain); },
			[](Scene& scene, long result) { expect_ends(scene.actor.domain, scene.io, result); }),
		  2u);
}

INSTANTIATE_TEST_SUITE_P(, FailNthIo, testing::ValuesIn(kinds),
			 [](const auto& each) { return std::string(each.param.name); });

TEST_F(FailNth, SendFile)
{
	struct Scene : IoScene {
		Fd file = temporary_file();
		fbufs_send_file args = send_file_args(ends.in, file, 0, 3 * page);
		explicit Scene(Ends made) : IoScene(std::move(made)) { EXPECT_EQ(::ftruncate(file, 3 * page), 0); }
	};
	for (const auto make : {make_tcp4, make_unix_stream})
		EXPECT_GT(sweep([=] { return Scene(make()); },
				[](Scene& scene) { return call(scene.actor.domain, FBUFS_SEND_FILE, scene.args); },
				[](Scene& scene, long result) {
					// What was sent before a failure counts.
					expect_error_in(result, {ENOMEM, ENOBUFS, EAGAIN, EFAULT});
					Bytes got(4 * page);
					if (result > 0) {
						EXPECT_EQ(::recv(scene.ends.out, got.data(), got.size(),
								 MSG_PEEK | MSG_WAITALL | MSG_DONTWAIT),
							  result);
					}
				}),
			  2u);
}

TEST_F(FailNth, IoFile)
{
	struct Scene : Pool {
		Fd file = temporary_file();
		fbufs_buffer buffer = actor.filled(2 * page);
		IoCall io;
		explicit Scene(bool reads)
		{
			const Bytes data = pattern(3 * page);
			EXPECT_EQ(::pwrite(file, data.data(), data.size(), 0), static_cast<ssize_t>(data.size()));
			io.op = reads ? read_op(file, 3 * page, 7) : write_op(file, 7);
			if (!reads)
				io.slices = {slice_of(buffer.fbuf, 0, 2 * page)};
		}
	};
	for (const bool reads : {false, true})
		EXPECT_GT(sweep([=] { return Scene(reads); },
				[](Scene& scene) { return scene.io.run(scene.actor.domain); },
				[](Scene& scene, long result) {
					expect_ends(scene.actor.domain, scene.io, result);
					EXPECT_EQ(scene.actor.state(scene.buffer), FBUFS_STATE_OWNED);
				}),
			  1u);
}

// Fbufs of another process arrive whole, through a pipe.
struct Taking : Pool {
	Ends ends = make_pipe();
	Remote from{1 << 20};
	IoCall io;
	Taking()
	{
		const fbufs_buffer buffer = from.filled(page);
		EXPECT_EQ(from.submit(write_op(ends.in, 1, 1, FBUFS_IO_GIVE), {slice_of(buffer.fbuf, 0, page)}), 1);
		io.op = read_op(ends.out, page, 7);
	}
};

TEST_F(FailNth, IoTake)
{
	EXPECT_GT(sweep([] { return Taking(); }, [](Taking& scene) { return scene.io.run(scene.actor.domain); },
			[](Taking& scene, long result) { expect_ends(scene.actor.domain, scene.io, result); }),
		  2u);
}

TEST_F(FailNth, MakeMutable)
{
	struct Scene : Taking {
		fbufs_make_mutable made = {};
		Scene()
		{
			EXPECT_EQ(io.run(actor.domain), 1);
			EXPECT_EQ(io.args.out_completed, 1u);
			EXPECT_NE(io.completions[0].message, 0u);
		}
	};
	EXPECT_GT(sweep([] { return Scene(); },
			[](Scene& scene) {
				return make_mutable(scene.actor.domain, scene.io.completions[0].message, scene.made);
			},
			[](Scene& scene, long result) {
				expect_memory_error(result);
				const std::uint64_t message = scene.io.completions[0].message;
				EXPECT_EQ(handles(scene.actor.domain, FBUFS_RELEASE, {message}),
					  result == 0 ? -ENOENT : 1);
			}),
		  2u);
}

TEST_F(FailNth, Cancel)
{
	struct Scene : IoScene {
		Scene() : IoScene(make_pipe())
		{
			io.op = read_op(ends.out, page, 7);
			EXPECT_EQ(io.run(actor.domain), 1);
		}
	};
	sweep([] { return Scene(); }, [](Scene& scene) { return cancel(scene.actor.domain, 7); },
	      [](Scene& scene, long result) {
		      expect_memory_error(result);
		      if (result < 0) {
			      EXPECT_EQ(cancel(scene.actor.domain, 7), 1);
		      }
		      EXPECT_EQ(finish_one(scene.actor.domain).result, -ECANCELED);
	      });
}

} // namespace
