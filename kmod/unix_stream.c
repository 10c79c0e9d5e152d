// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors
/*
 * Packets of UNIX stream sockets, as AF_UNIX queues them: what we put in, and
 * what we take out again without reading it.
 *
 * MSG_SPLICE_PAGES makes a packet refer to single pages, 17 of them. Here it
 * refers to the blocks that an fbuf consists of, of any length, so that what a
 * message costs hardly depends on its size, on both sides. Any reader of the
 * socket understands such packets; the memory that they show is charged to the
 * sending socket as always.
 *
 * Who reads a stream holds its iolock, which guards how much of the first packet
 * is consumed; the lock of the queue guards its links. Nothing of ours is held
 * when one of them is taken, and the lock of a pool is taken under both.
 */

#include <linux/bvec.h>
#include <linux/skmsg.h>
#include <net/af_unix.h>
#include <net/sock.h>

#include "descriptor.h"
#include "fdio.h"
#include "unix_stream.h"

/* Whether packets between the two need more than their bytes, or are not simply queued. */
static bool pair_is_plain(const struct socket *sock, const struct sock *other)
{
	const unsigned long marks = BIT(SOCK_PASSCRED) | BIT(SOCK_PASSPIDFD) | BIT(SOCK_PASSSEC);
	bool plain;

	rcu_read_lock();
	plain = !sk_psock(sock->sk) && !sk_psock(other);
	rcu_read_unlock();
	/* Without a socket it has yet to be accepted: by somebody who may want credentials. */
	return plain && other->sk_socket && !(sock->flags & marks) &&
	       !(other->sk_socket->flags & marks);
}

static struct sk_buff *packet_make(struct sock *sk, const struct bio_vec *blocks, u32 n, int *err)
{
	struct sk_buff *skb = sock_alloc_send_pskb(sk, 0, 0, true, err, 0);
	u32 i;

	if (!skb)
		return NULL;
	UNIXCB(skb).uid = INVALID_UID;
	UNIXCB(skb).gid = INVALID_GID;
	skb->ip_summed = CHECKSUM_UNNECESSARY;
	for (i = 0; i < n; i++) {
		get_page(blocks[i].bv_page);
		skb_fill_page_desc(skb, i, blocks[i].bv_page, blocks[i].bv_offset,
				   blocks[i].bv_len);
		skb_len_add(skb, blocks[i].bv_len);
		refcount_add(blocks[i].bv_len, &sk->sk_wmem_alloc);
	}
	/* Nobody changes the pages in place. */
	skb_shinfo(skb)->flags |= SKBFL_SHARED_FRAG;
	return skb;
}

/* Queue a packet with the other side, if that still reads and there is nothing else to it. */
static int packet_queue(const struct socket *sock, struct sock *other, struct sk_buff *skb)
{
	int err = 0;

	unix_state_lock(other);
	if (sock_flag(other, SOCK_DEAD) || other->sk_shutdown & RCV_SHUTDOWN)
		err = -EPIPE;
	else if (!pair_is_plain(sock, other))
		err = -EOPNOTSUPP;
	else
		skb_queue_tail(&other->sk_receive_queue, skb);
	unix_state_unlock(other);
	if (err)
		kfree_skb(skb);
	else
		other->sk_data_ready(other);
	return err;
}

/**
 * unix_stream_put - put blocks of pages into a stream
 * @sock: a UNIX stream socket
 * @blocks: what to send, of fbufs that stay until nothing refers to their pages
 * @n: how many; more than a packet can refer to are left for the next call
 *
 * Context: May sleep.
 * Return: bytes, or an error: -EAGAIN; -EOPNOTSUPP when sock_sendmsg() has to
 * do it; those of sock_sendmsg().
 */
int unix_stream_put(struct socket *sock, const struct bio_vec *blocks, u32 n)
{
	struct msghdr nothing = { .msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL };
	struct sk_buff *skb;
	struct sock *other;
	int err, bytes;

	/* Without a byte it still says whether the caller may send here, and can. */
	err = sock_sendmsg(sock, &nothing);
	if (err)
		return err;
	other = unix_peer_get(sock->sk);
	if (!other)
		return -ENOTCONN;
	skb = packet_make(sock->sk, blocks, min_t(u32, n, MAX_SKB_FRAGS), &err);
	if (skb) {
		bytes = skb->len;
		err = packet_queue(sock, other, skb);
	}
	sock_put(other);
	return err ? err : bytes;
}

/* Whether a packet is nothing but references to pages. */
static bool skb_is_pages(const struct sk_buff *skb)
{
	return !skb_headlen(skb) && !skb_has_frag_list(skb) && skb_shinfo(skb)->nr_frags &&
	       !UNIXCB(skb).fp;
}

/* The next packet if something of it may be to be taken, or NULL. Context: iolock. */
static struct sk_buff *next_pages(struct sock *sk)
{
	struct sk_buff *skb;

	lockdep_assert_held(&unix_sk(sk)->iolock);
	spin_lock(&sk->sk_receive_queue.lock);
	skb = skb_peek(&sk->sk_receive_queue);
#if IS_ENABLED(CONFIG_AF_UNIX_OOB)
	if (skb && skb == READ_ONCE(unix_sk(sk)->oob_skb))
		skb = NULL;
#endif
	spin_unlock(&sk->sk_receive_queue.lock);
	/* It stays first: only readers take packets off. */
	return skb && skb_is_pages(skb) ? skb : NULL;
}

/*
 * Take @bytes of a packet from @offset of one of its places on, as whole pages.
 * Returns how many.
 */
static u32 frag_take(struct fdio_op *op, const skb_frag_t *frag, u32 offset, u32 bytes)
{
	struct page *page = skb_frag_page(frag);

	offset += skb_frag_off(frag);
	bytes = round_down(min_t(u64, bytes, op->args.length - op->done), PAGE_SIZE);
	/* Not all of it was sent. */
	if (offset_in_page(offset) || !bytes)
		return 0;
	return descriptor_take_place(op, page + (offset >> PAGE_SHIFT), bytes) ? bytes : 0;
}

/* Take what follows the consumed bytes of a packet, as far as may be. Returns bytes. */
static u32 packet_take(struct fdio_op *op, const struct sk_buff *skb)
{
	u32 skip = UNIXCB(skb).consumed, all = 0, i, bytes, taken;

	for (i = 0; i < skb_shinfo(skb)->nr_frags; i++) {
		const skb_frag_t *frag = &skb_shinfo(skb)->frags[i];

		bytes = skb_frag_size(frag);
		if (skip >= bytes) {
			skip -= bytes;
			continue;
		}
		bytes -= skip;
		taken = frag_take(op, frag, skip, bytes);
		all += taken;
		if (taken < bytes)
			break;
		skip = 0;
	}
	return all;
}

/**
 * unix_stream_take - take the fbufs that have arrived
 * @op: an operation that reads, with a message for them
 * @sk: a UNIX stream socket
 *
 * Context: May sleep.
 */
void unix_stream_take(struct fdio_op *op, struct sock *sk)
{
	struct sk_buff *skb;
	u32 bytes;

	mutex_lock(&unix_sk(sk)->iolock);
	while ((skb = next_pages(sk))) {
		bytes = packet_take(op, skb);
		if (!bytes)
			break;
		UNIXCB(skb).consumed += bytes;
		sk_peek_offset_bwd(sk, bytes);
		if (UNIXCB(skb).consumed < skb->len)
			break;
		skb_unlink(skb, &sk->sk_receive_queue);
		consume_skb(skb);
	}
	mutex_unlock(&unix_sk(sk)->iolock);
}
