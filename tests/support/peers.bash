# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
# Sourced by the scripts of tests/io: network namespaces, and what they share. Runs in the VM, as root.
set -euo pipefail
name=$(basename "$0")
tree=$PWD
fbuf=$tree/build/fbuf
place=$(mktemp -d)
cd "$place"

say() { echo "$name: $*"; }
die() { say "$*"; exit 1; }

need() { # COMMAND...
	local each
	for each in "$@"; do command -v "$each" >/dev/null || die "there is no $each: tests/vm/deps test"; done
}

clean_up() {
	local status=$? each
	trap - EXIT ERR
	set +e
	# shellcheck disable=SC2046 # pids
	kill $(jobs -p) 2>/dev/null
	for each in $(ip netns list 2>/dev/null | cut -d' ' -f1); do
		# Who still runs there is ours.
		ip netns pids "$each" | xargs -r kill -9
		ip netns del "$each"
	done
	cd /
	grep -o " $place/[^ ]*" /proc/mounts | xargs -r umount
	rm -rf "$place"
	exit $status
}
trap clean_up EXIT
trap 'say "line $LINENO: $BASH_COMMAND"' ERR

namespace() { # NAME...
	local each
	for each in "$@"; do
		ip netns add "$each"
		ip -n "$each" link set lo up
	done
}

# join NS DEVICE ADDRESS NS DEVICE ADDRESS MTU: a veth pair; an address is N of 10.0.N/24 and fd00:N::/64.
join() {
	ip link add "$2" mtu "$7" netns "$1" type veth peer name "$5" mtu "$7" netns "$4"
	end "$1" "$2" "$3"
	end "$4" "$5" "$6"
}
end() { # NS DEVICE NET.HOST
	ip -n "$1" addr add "10.0.$3/24" dev "$2"
	ip -n "$1" addr add "fd00:${3%.*}::${3#*.}/64" nodad dev "$2"
	ip -n "$1" link set "$2" up
}

# step COMMAND...: no step takes longer, and one that does ends all.
step() {
	local status=0
	timeout -k 5 "${STEP:-120}" "$@" || status=$?
	[ $status != 124 ] || say "it did not end within ${STEP:-120} s: $*"
	return $status
}
# serve NS COMMAND... &: what lives as long as the script, or until it is killed.
serve() { local ns=$1; shift; exec ip netns exec "$ns" "$@"; }
in_ns() { local ns=$1; shift; step ip netns exec "$ns" "$@"; }
near() { in_ns near "$@"; }
far() { in_ns far "$@"; }

# listening NS PORT [udp]: until somebody listens there.
listening() {
	local kind=-ltnH
	[ "${3:-}" = udp ] && kind=-lunH
	for _ in $(seq 200); do
		ss -N "$1" $kind "sport = :$2" | grep -q . && return
		sleep 0.05
	done
	die "nobody listens at $2 in $1"
}

# finished NAME PID...: all of them, and well.
finished() {
	local what=$1 pid
	shift
	for pid in "$@"; do wait "$pid" || die "$what: a program ended with $?"; done
}

# gone NAME PID: a process that has to end now does; $status is how.
gone() {
	local _
	for _ in $(seq 400); do
		if [ ! -e "/proc/$2" ]; then
			status=0
			wait "$2" 2>/dev/null || status=$?
			return 0
		fi
		sleep 0.05
	done
	die "$1 does not end: $(tail -n +1 "/proc/$2/stat" "/proc/$2/stack")"
}

# same NAME FILE [WANTED]: by SHA-256; the file goes.
same() {
	[ "$(sha256sum <"$2")" = "$(sha256sum <"${3:-data}")" ] ||
		die "$1: the content differs: $(cmp "$2" "${3:-data}" 2>&1), $(stat -c %s "$2" "${3:-data}" | xargs) bytes"
	say "$1"
	rm -f "$2"
}

# zero_copy LOG: nothing of what was written was copied.
zero_copy() { grep -q '"write_copied":0,"write_zero_copy":true' "$1" || die "copied: $(cat "$1")"; }

# Makes a program for socat's EXEC: the connection at its descriptors 0 and 1 goes on to HOST PORT by one relay, and
# what comes back by another.
both_ways() { # FILE
	cat >"$1" <<-RELAY
		#!/bin/bash
		exec 3<>"/dev/tcp/\$1/\$2" 4<&0 5>&1
		"$fbuf" relay -j fd:4 fd:3 2>>"$place/there.log" &
		"$fbuf" relay -j fd:3 fd:5 2>>"$place/back.log" &
		wait
	RELAY
	chmod +x "$1"
}
