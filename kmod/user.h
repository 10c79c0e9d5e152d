/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * Small structures to and from user memory, by the word. Most calls move a few
 * dozen bytes several times; copy_from_user() and copy_to_user() of a length that
 * the compiler does not know cost more than that each time, for they look up
 * what the kernel's side of the copy is. Longer ones are left to them.
 */
#ifndef FBUFS_USER_H
#define FBUFS_USER_H

#include <linux/types.h>
#include <linux/uaccess.h>
#include <linux/unaligned.h>

#define USER_SMALL 128

/* @bytes: a multiple of 8. Return: 0, or -EFAULT with any part of it done. */
static __always_inline int user_fetch(void *to, const void __user *from, size_t bytes)
{
	const u64 __user *in = from;
	u64 *out = to;

	if (bytes > USER_SMALL)
		return copy_from_user(to, from, bytes) ? -EFAULT : 0;
	if (!user_read_access_begin(in, bytes))
		return -EFAULT;
	for (; bytes >= 4 * sizeof(*out); bytes -= 4 * sizeof(*out), in += 4, out += 4) {
		unsafe_get_user(out[0], &in[0], fault);
		unsafe_get_user(out[1], &in[1], fault);
		unsafe_get_user(out[2], &in[2], fault);
		unsafe_get_user(out[3], &in[3], fault);
	}
	for (; bytes >= 2 * sizeof(*out); bytes -= 2 * sizeof(*out), in += 2, out += 2) {
		unsafe_get_user(out[0], &in[0], fault);
		unsafe_get_user(out[1], &in[1], fault);
	}
	if (bytes)
		unsafe_get_user(*out, in, fault);
	user_read_access_end();
	return 0;
fault:
	user_read_access_end();
	return -EFAULT;
}

/* As user_fetch(), of any number of bytes to anywhere. */
static __always_inline int user_fetch_bytes(void *to, const void __user *from, size_t bytes)
{
	u64 word;

	if (bytes > USER_SMALL)
		return copy_from_user(to, from, bytes) ? -EFAULT : 0;
	if (!user_read_access_begin(from, bytes))
		return -EFAULT;
	for (; bytes >= sizeof(word); bytes -= sizeof(word)) {
		unsafe_get_user(word, (const u64 __user *)from, fault);
		put_unaligned(word, (u64 *)to);
		to += sizeof(word);
		from += sizeof(word);
	}
	for (; bytes; bytes--)
		unsafe_get_user(*(u8 *)to++, (const u8 __user *)from++, fault);
	user_read_access_end();
	return 0;
fault:
	user_read_access_end();
	return -EFAULT;
}

/* As user_fetch(). */
static __always_inline int user_store(void __user *to, const void *from, size_t bytes)
{
	u64 __user *out = to;
	const u64 *in = from;

	if (bytes > USER_SMALL)
		return copy_to_user(to, from, bytes) ? -EFAULT : 0;
	if (!user_write_access_begin(out, bytes))
		return -EFAULT;
	for (; bytes >= 2 * sizeof(*in); bytes -= 2 * sizeof(*in), in += 2, out += 2) {
		unsafe_put_user(in[0], &out[0], fault);
		unsafe_put_user(in[1], &out[1], fault);
	}
	if (bytes)
		unsafe_put_user(*in, out, fault);
	user_write_access_end();
	return 0;
fault:
	user_write_access_end();
	return -EFAULT;
}

/*
 * As user_fetch() and user_store(), of @n of @most elements. Where that is all of them the
 * compiler knows the length, and the kernel need not look up what its side is.
 */
static __always_inline int user_fetch_vector(void *to, const void __user *from, size_t size,
					     u32 n, u32 most)
{
	return n == most ? user_fetch(to, from, most * size) : user_fetch(to, from, n * size);
}

static __always_inline int user_store_vector(void __user *to, const void *from, size_t size,
					     u32 n, u32 most)
{
	return n == most ? user_store(to, from, most * size) : user_store(to, from, n * size);
}

/*
 * Whether user_store() of these would succeed, which are at least 8 bytes and less than
 * a page: the first and the last word of them are stored.
 */
static __always_inline int user_probe(void __user *to, const void *from, size_t bytes)
{
	size_t last = bytes - sizeof(u64);

	if (!user_write_access_begin(to, bytes))
		return -EFAULT;
	unsafe_put_user(*(const u64 *)from, (u64 __user *)to, fault);
	unsafe_put_user(*(const u64 *)(from + last), (u64 __user *)(to + last), fault);
	user_write_access_end();
	return 0;
fault:
	user_write_access_end();
	return -EFAULT;
}

#endif
