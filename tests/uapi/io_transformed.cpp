// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// FBUFS_IO on sockets whose bytes the kernel changes: kTLS encrypts them, BPF programs of a sockmap may write to
// them, IPsec decrypts what arrives. They copy, and say so; whoever changes packets in place gets a copy of ours.

#include "support/io.hpp"

#include <linux/bpf.h>
#include <linux/tls.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/syscall.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

namespace {

using namespace uapi;

constexpr std::size_t bytes = 4 * page;

class IoTransformed : public IoTest {
protected:
	Actor actor{8 << 20};
	fbufs_buffer buffer = actor.filled(bytes, 7);
	Bytes data = pattern(bytes, 7);

	[[nodiscard]] std::vector<fbufs_slice> all() const { return {slice_of(buffer.fbuf, 0, bytes)}; }
	static void expect_transformed(const Done& done, std::int64_t result)
	{
		EXPECT_EQ(done.result, result);
		EXPECT_EQ(done.flags, FBUFS_IO_COPIED | FBUFS_IO_FALLBACK);
		EXPECT_EQ(done.reason, FBUFS_IO_TRANSFORMED);
		EXPECT_EQ(done.copied, static_cast<std::uint64_t>(result));
	}
	void expect_mine()
	{
		EXPECT_EQ(actor.state(buffer), FBUFS_STATE_OWNED);
		EXPECT_TRUE(actor.contents(buffer.position, bytes) == data);
		EXPECT_FALSE(store_faults(actor.at(buffer)));
		*actor.at(buffer) = data[0];
	}
};

//
// kTLS
//

void use_tls(int fd, int direction, std::uint16_t version)
{
	ASSERT_EQ(::setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", 4), 0) << std::strerror(errno);
	tls12_crypto_info_aes_gcm_128 keys = {};
	keys.info.version = version;
	keys.info.cipher_type = TLS_CIPHER_AES_GCM_128;
	std::memset(keys.key, 0x41, sizeof(keys.key));
	std::memset(keys.salt, 0x42, sizeof(keys.salt));
	std::memset(keys.iv, 0x43, sizeof(keys.iv));
	ASSERT_EQ(::setsockopt(fd, SOL_TLS, direction, &keys, sizeof(keys)), 0) << std::strerror(errno);
}

class IoTls : public IoTransformed, public testing::WithParamInterface<std::uint16_t> {
protected:
	Ends ends = make_tcp4();
	void SetUp() override
	{
		IoTransformed::SetUp();
		ASSERT_NO_FATAL_FAILURE(use_tls(ends.in, TLS_TX, GetParam()));
	}
	void decrypt() { ASSERT_NO_FATAL_FAILURE(use_tls(ends.out, TLS_RX, GetParam())); }
};

TEST_P(IoTls, WritingCopiesAndSaysSo)
{
	ASSERT_NO_FATAL_FAILURE(decrypt());
	for (const std::uint32_t flags : {0u, FBUFS_IO_GIVE}) {
		const Done done = complete(actor.domain, write_op(ends.in, 1, 1, flags), all());
		expect_transformed(done, bytes);
		if (flags) {
			EXPECT_TRUE(actor.becomes(buffer, FBUFS_STATE_FREE));
		} else {
			expect_mine();
			std::memset(actor.at(buffer), 0xee, bytes);
			std::memcpy(actor.at(buffer), data.data(), bytes);
		}
		std::vector<Done> none;
		EXPECT_TRUE(pump(actor.domain, ends.out, bytes, none) == data);
	}
}

// What goes over the wire is not what was sent.
TEST_P(IoTls, TheWireHasItEncrypted)
{
	expect_transformed(complete(actor.domain, write_op(ends.in), all()), bytes);
	std::vector<Done> none;
	const Bytes wire = pump(actor.domain, ends.out, bytes + 1000, none, 500);
	EXPECT_GT(wire.size(), bytes) << "records have heads and tags";
	ASSERT_GE(wire.size(), 5u);
	EXPECT_EQ(wire[0], 23) << "application data";
	EXPECT_EQ(std::search(wire.begin(), wire.end(), data.begin(), data.begin() + 64), wire.end());
	expect_mine();
}

TEST_P(IoTls, ManySlicesAndSteps)
{
	ASSERT_NO_FATAL_FAILURE(decrypt());
	for (const Shape shape : {Shape::one_small, Shape::many_small, Shape::one_large, Shape::many_large}) {
		const Load load = make_load(actor, shape, true);
		ASSERT_EQ(submit(actor.domain, write_op(ends.in, 1, static_cast<std::uint32_t>(load.slices.size())),
				 load.slices),
			  1);
		std::vector<Done> done;
		EXPECT_TRUE(pump(actor.domain, ends.out, load.expected.size(), done) == load.expected)
			<< name_of(shape);
		if (done.empty())
			done.push_back(finish_one(actor.domain));
		expect_transformed(done[0], static_cast<std::int64_t>(load.expected.size()));
		for (std::size_t i = 0; i < load.buffers.size(); i++) {
			EXPECT_TRUE(actor.contents(load.buffers[i].position, load.before[i].size()) == load.before[i]);
			EXPECT_EQ(handles(actor.domain, FBUFS_FREE, {load.buffers[i].fbuf}), 1);
		}
	}
}

TEST_P(IoTls, ReadingDecrypts)
{
	ASSERT_NO_FATAL_FAILURE(decrypt());
	ASSERT_EQ(::write(ends.in, data.data(), bytes), static_cast<ssize_t>(bytes));
	const Done done = complete(actor.domain, read_op(ends.out, bytes, 2, FBUFS_IO_ALL));
	EXPECT_EQ(done.result, static_cast<std::int64_t>(bytes));
	EXPECT_EQ(done.flags & (FBUFS_IO_ZEROCOPY | FBUFS_IO_COPIED), FBUFS_IO_COPIED);
	EXPECT_EQ(done.copied, bytes);
	EXPECT_TRUE(actor.contents(done.position, bytes) == data);
}

// From one fbufs program to another, and on.
TEST_P(IoTls, BothSides)
{
	ASSERT_NO_FATAL_FAILURE(decrypt());
	ASSERT_EQ(submit(actor.domain, write_op(ends.in, 1, 1, FBUFS_IO_GIVE), all()), 1);
	ASSERT_EQ(submit(actor.domain, read_op(ends.out, bytes, 2, FBUFS_IO_ALL)), 1);
	std::vector<Done> done = finish(actor.domain, 2);
	ASSERT_EQ(done.size(), 2u);
	if (done[0].cookie == 1)
		std::swap(done[0], done[1]);
	ASSERT_NE(done[0].fbuf, 0u);
	EXPECT_NE(done[0].fbuf, buffer.fbuf);
	EXPECT_TRUE(actor.contents(done[0].position, bytes) == data);
	expect_transformed(done[1], bytes);
}

INSTANTIATE_TEST_SUITE_P(Version, IoTls,
			 testing::Values(std::uint16_t{TLS_1_2_VERSION}, std::uint16_t{TLS_1_3_VERSION}),
			 [](const auto& test) { return test.param == TLS_1_2_VERSION ? "12" : "13"; });

//
// BPF
//

long bpf(int command, bpf_attr& attr)
{
	const long result = ::syscall(SYS_bpf, command, &attr, sizeof(attr));
	return result < 0 ? -errno : result;
}

// What there is of the kernel's BPF_* macros in no header for programs.
constexpr bpf_insn insn(std::uint8_t code, std::uint8_t dst, std::uint8_t src, std::int16_t off, std::int32_t imm)
{
	return {code, static_cast<std::uint8_t>(dst & 15), static_cast<std::uint8_t>(src & 15), off, imm};
}

Fd load_program(bpf_prog_type type, bpf_attach_type attach, const std::vector<bpf_insn>& program)
{
	std::string log(1 << 16, '\0');
	bpf_attr attr = {};
	attr.prog_type = type;
	attr.expected_attach_type = attach;
	attr.insns = address(program.data());
	attr.insn_cnt = static_cast<std::uint32_t>(program.size());
	attr.license = address("GPL");
	attr.log_buf = address(log.data());
	attr.log_size = static_cast<std::uint32_t>(log.size());
	attr.log_level = 1;
	const long fd = bpf(BPF_PROG_LOAD, attr);
	EXPECT_GE(fd, 0) << std::strerror(static_cast<int>(-fd)) << ": " << log.c_str();
	return Fd(fd < 0 ? -1 : static_cast<int>(fd));
}

// Writes 'X' over the first byte of every message that is sent.
Fd sending_program()
{
	return load_program(BPF_PROG_TYPE_SK_MSG, BPF_SK_MSG_VERDICT,
			    {
				    insn(BPF_LDX | BPF_MEM | BPF_DW, 2, 1, offsetof(sk_msg_md, data), 0),
				    insn(BPF_LDX | BPF_MEM | BPF_DW, 3, 1, offsetof(sk_msg_md, data_end), 0),
				    insn(BPF_ALU64 | BPF_MOV | BPF_X, 4, 2, 0, 0),
				    insn(BPF_ALU64 | BPF_ADD | BPF_K, 4, 0, 0, 1),
				    insn(BPF_JMP | BPF_JGT | BPF_X, 4, 3, 1, 0),
				    insn(BPF_ST | BPF_MEM | BPF_B, 2, 0, 0, 'X'),
				    insn(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, SK_PASS),
				    insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
			    });
}

// Writes 'Y' over the first byte of every packet that is received.
Fd receiving_program()
{
	return load_program(BPF_PROG_TYPE_SK_SKB, BPF_SK_SKB_STREAM_VERDICT,
			    {
				    insn(BPF_ST | BPF_MEM | BPF_B, 10, 0, -1, 'Y'),
				    insn(BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, 0),
				    insn(BPF_ALU64 | BPF_MOV | BPF_X, 3, 10, 0, 0),
				    insn(BPF_ALU64 | BPF_ADD | BPF_K, 3, 0, 0, -1),
				    insn(BPF_ALU64 | BPF_MOV | BPF_K, 4, 0, 0, 1),
				    insn(BPF_ALU64 | BPF_MOV | BPF_K, 5, 0, 0, 0),
				    insn(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_skb_store_bytes),
				    insn(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, SK_PASS),
				    insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
			    });
}

// A map with one socket, whose messages go through a program.
class Sockmap {
public:
	Sockmap(const Fd& program, bpf_attach_type attach, int socket)
	{
		bpf_attr attr = {};
		attr.map_type = BPF_MAP_TYPE_SOCKMAP;
		attr.key_size = attr.value_size = 4;
		attr.max_entries = 1;
		const long fd = bpf(BPF_MAP_CREATE, attr);
		EXPECT_GE(fd, 0) << std::strerror(static_cast<int>(-fd));
		map_ = Fd(static_cast<int>(fd));
		attr = {};
		attr.target_fd = static_cast<std::uint32_t>(map_.get());
		attr.attach_bpf_fd = static_cast<std::uint32_t>(program.get());
		attr.attach_type = attach;
		long result = bpf(BPF_PROG_ATTACH, attr);
		EXPECT_EQ(result, 0) << std::strerror(static_cast<int>(-result));
		const std::uint32_t key = 0, value = static_cast<std::uint32_t>(socket);
		attr = {};
		attr.map_fd = static_cast<std::uint32_t>(map_.get());
		attr.key = address(&key);
		attr.value = address(&value);
		result = bpf(BPF_MAP_UPDATE_ELEM, attr);
		EXPECT_EQ(result, 0) << std::strerror(static_cast<int>(-result));
	}

private:
	Fd map_;
};

TEST_F(IoTransformed, SockmapCopiesAndSaysSo)
{
	const Fd program = sending_program();
	const Ends ends = make_tcp4();
	{
		const Sockmap map(program, BPF_SK_MSG_VERDICT, ends.in);
		const Done done = complete(actor.domain, write_op(ends.in), all());
		expect_transformed(done, bytes);
		expect_mine();
		std::memset(actor.at(buffer), 0xee, bytes);
		std::vector<Done> none;
		const Bytes seen = pump(actor.domain, ends.out, bytes, none);
		ASSERT_EQ(seen.size(), bytes);
		EXPECT_EQ(seen[0], 'X') << "the program did not run: this shows nothing";
		EXPECT_TRUE(Bytes(seen.begin() + 1, seen.end()) == Bytes(data.begin() + 1, data.end()));
	}
}

TEST_F(IoTransformed, SockmapOfManyMegabytes)
{
	const Fd program = sending_program();
	const Ends ends = make_tcp6();
	const Sockmap map(program, BPF_SK_MSG_VERDICT, ends.in);
	const fbufs_buffer large = actor.filled(2 << 20, 3);
	ASSERT_EQ(submit(actor.domain, write_op(ends.in), {slice_of(large.fbuf, 0, 2 << 20)}), 1);
	std::vector<Done> done;
	const Bytes seen = pump(actor.domain, ends.out, 2 << 20, done);
	ASSERT_EQ(seen.size(), 2u << 20);
	if (done.empty())
		done.push_back(finish_one(actor.domain));
	expect_transformed(done[0], 2 << 20);
	const Bytes expected = pattern(2 << 20, 3);
	std::size_t changed = 0;
	for (std::size_t i = 0; i < seen.size(); i++)
		changed += seen[i] != expected[i];
	EXPECT_GT(changed, 0u);
	EXPECT_LT(changed, 2000u) << "one byte of a message";
	EXPECT_TRUE(actor.contents(large.position, 2 << 20) == expected);
}

// Zero-copy to a receiver whose program rewrites what arrives: a copy is rewritten.
TEST_F(IoTransformed, ReceiverRewritesACopy)
{
	const Fd program = receiving_program();
	const Ends ends = make_tcp4();
	const Sockmap map(program, BPF_SK_SKB_STREAM_VERDICT, ends.out);
	ASSERT_EQ(submit(actor.domain, write_op(ends.in), all()), 1);
	std::vector<Done> done;
	const Bytes seen = pump(actor.domain, ends.out, bytes - 1, done);
	ASSERT_EQ(seen.size(), bytes - 1);
	EXPECT_EQ(seen[0], 'Y') << "the program did not run: this shows nothing";
	EXPECT_TRUE(actor.contents(buffer.position, bytes) == data) << "the locked fbuf was written";
	EXPECT_EQ(read_some(ends.out, 10).size(), 1u);
	if (done.empty())
		done.push_back(finish_one(actor.domain));
	EXPECT_EQ(done[0].flags, FBUFS_IO_ZEROCOPY);
	expect_mine();
}

//
// IPsec
//

// A packet that is ESP in UDP is decrypted where it lies, unless its pages are marked as shared. A sender could write
// into its own locked fbuf so.
TEST_F(IoTransformed, NotDecryptedInPlace)
{
	ASSERT_EQ(std::system("ip xfrm state add src 127.0.0.1 dst 127.0.0.1 proto esp spi 0x12345678 mode transport "
			      "aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0f10111213 128 "
			      "encap espinudp 4500 4500 0.0.0.0"),
		  0);
	const Fd to(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)),
		from(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	const int encapsulated = 2; // UDP_ENCAP_ESPINUDP
	ASSERT_EQ(::setsockopt(to, IPPROTO_UDP, 100 /* UDP_ENCAP */, &encapsulated, sizeof(encapsulated)), 0)
		<< std::strerror(errno);
	Place place(AF_INET);
	reinterpret_cast<sockaddr_in*>(&place.storage)->sin_port = htons(4500);
	ASSERT_EQ(::bind(to, place.get(), place.length), 0) << std::strerror(errno);
	ASSERT_EQ(::connect(from, place.get(), place.length), 0);
	// SPI, sequence number, then what a key nobody has would have made.
	const std::uint8_t head[] = {0x12, 0x34, 0x56, 0x78, 0, 0, 0, 1};
	std::memcpy(actor.at(buffer), head, sizeof(head));
	std::copy(head, head + sizeof(head), data.begin());
	const Done done = complete(actor.domain, write_op(from), {slice_of(buffer.fbuf, 0, 1400)});
	EXPECT_EQ(done.result, 1400);
	EXPECT_EQ(done.flags, FBUFS_IO_ZEROCOPY);
	std::string said(4096, '\0');
	const Fd counted(::open("/proc/net/xfrm_stat", O_RDONLY | O_CLOEXEC));
	EXPECT_TRUE(eventually(
		[&] {
			const ssize_t n = ::pread(counted, said.data(), said.size(), 0);
			const auto at = said.find("XfrmInStateProtoError");
			return n > 0 && at != std::string::npos &&
			       std::strtoul(said.c_str() + at + 21, nullptr, 10) > 0;
		},
		2000))
		<< "nobody tried to decrypt it: this shows nothing\n"
		<< said.c_str();
	expect_mine();
	EXPECT_EQ(std::system("ip xfrm state flush"), 0);
}

} // namespace
