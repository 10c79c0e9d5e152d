// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors

#include <linux/net.h>
#include <linux/skmsg.h>
#include <net/addrconf.h>
#include <net/inet_connection_sock.h>
#include <net/route.h>
#include <net/sock.h>
#include <linux/fbufs.h>

#include "socket.h"

static bool dst_gathers(const struct dst_entry *dst)
{
	return READ_ONCE(dst->dev)->features & NETIF_F_SG;
}

/*
 * Whether the network device that a connected socket's packets leave by can gather
 * pages. Before the first packet nothing is known.
 */
static bool socket_gathers(struct sock *sk)
{
	struct dst_entry *dst;
	bool gathers;

	rcu_read_lock();
	dst = rcu_dereference(sk->sk_dst_cache);
	gathers = !dst || dst_gathers(dst);
	rcu_read_unlock();
	return gathers;
}

/* The way of a datagram to an IPv4 address, with a reference; or an error. */
static struct dst_entry *datagram_route(struct sock *sk, __be32 to, __be16 port)
{
	const struct inet_sock *inet = inet_sk(sk);
	int oif = READ_ONCE(sk->sk_bound_dev_if);
	struct flowi4 flow;
	struct rtable *route;

	if (!oif && ipv4_is_multicast(to))
		oif = READ_ONCE(inet->mc_index);
	flowi4_init_output(&flow, oif, READ_ONCE(sk->sk_mark),
			   READ_ONCE(inet->tos) & INET_DSCP_MASK, RT_SCOPE_UNIVERSE,
			   IPPROTO_UDP, inet_sk_flowi_flags(sk), to, inet->inet_saddr,
			   port, inet->inet_sport, sk->sk_uid);
	route = ip_route_output_flow(sock_net(sk), &flow, sk);
	return IS_ERR(route) ? ERR_CAST(route) : &route->dst;
}

static struct dst_entry *datagram_route6(struct sock *sk, const struct sockaddr_in6 *to)
{
	const struct ipv6_pinfo *np = inet6_sk(sk);
	struct flowi6 flow = {
		.flowi6_oif = READ_ONCE(sk->sk_bound_dev_if) ?: to->sin6_scope_id,
		.flowi6_mark = READ_ONCE(sk->sk_mark),
		.flowi6_proto = IPPROTO_UDP,
		.flowi6_uid = sk->sk_uid,
		.daddr = to->sin6_addr,
		.saddr = np->saddr,
		.fl6_dport = to->sin6_port,
		.fl6_sport = inet_sk(sk)->inet_sport,
	};

	if (!flow.flowi6_oif && ipv6_addr_is_multicast(&flow.daddr))
		flow.flowi6_oif = READ_ONCE(np->mcast_oif);
	return ipv6_stub->ipv6_dst_lookup_flow(sock_net(sk), sk, &flow, NULL);
}

/*
 * The same for a datagram to an address. What has no way there, or is no address,
 * fails when it is sent.
 */
static bool datagram_gathers(struct sock *sk, const struct sockaddr_storage *address, u32 length)
{
	const struct sockaddr_in *to = (const void *)address;
	const struct sockaddr_in6 *to6 = (const void *)address;
	struct dst_entry *dst;
	bool gathers;

	if (to->sin_family == AF_INET && length >= sizeof(*to))
		dst = datagram_route(sk, to->sin_addr.s_addr, to->sin_port);
	else if (to->sin_family != AF_INET6 || length < sizeof(*to6) ||
		 sk->sk_family != AF_INET6)
		return true;
	else if (ipv6_addr_v4mapped(&to6->sin6_addr))
		dst = datagram_route(sk, to6->sin6_addr.s6_addr32[3], to6->sin6_port);
	else
		dst = datagram_route6(sk, to6);
	if (IS_ERR(dst))
		return true;
	gathers = dst_gathers(dst);
	dst_release(dst);
	return gathers;
}

/**
 * socket_copies - why a socket would copy pages that it is given by reference
 * @sock: the socket
 * @address: where a datagram is to go
 * @length: of @address; 0: where the socket is connected to
 *
 * Return: enum fbufs_io_reason; FBUFS_IO_NO_REASON when it would not.
 */
u32 socket_copies(const struct socket *sock, const struct sockaddr_storage *address, u32 length)
{
	struct sock *sk = sock->sk;
	bool transforms;

	if (sk->sk_family == AF_UNIX)
		return sock->type == SOCK_STREAM ? FBUFS_IO_NO_REASON : FBUFS_IO_NO_REFERENCES;
	if (sk->sk_family != AF_INET && sk->sk_family != AF_INET6)
		return FBUFS_IO_NO_REFERENCES;
	if (sk->sk_protocol == IPPROTO_UDP && sock->type == SOCK_DGRAM)
		return (length ? datagram_gathers(sk, address, length) : socket_gathers(sk)) ?
			       FBUFS_IO_NO_REASON : FBUFS_IO_NO_SCATTER_GATHER;
	if (sk->sk_protocol != IPPROTO_TCP || sock->type != SOCK_STREAM)
		return FBUFS_IO_NO_REFERENCES;
	rcu_read_lock();
	transforms = inet_csk(sk)->icsk_ulp_ops || sk_psock(sk);
	rcu_read_unlock();
	if (transforms)
		return FBUFS_IO_TRANSFORMED;
	/* TCP passes pages on in any case, for the layer below to copy. */
	return sk->sk_route_caps & NETIF_F_SG && socket_gathers(sk) ? FBUFS_IO_NO_REASON :
								      FBUFS_IO_NO_SCATTER_GATHER;
}
