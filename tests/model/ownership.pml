/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * The ownership and lock protocol, for exhaustive search by spin: one fbuf of one
 * page; an originator with a thread that stores, one that sends and one that
 * closes its device; two receivers, the first with a second thread that reads;
 * and the kernel, which holds messages for I/O.
 *
 * The states of the fbuf and what may be done in them come from the table that
 * the module's access.c is tested against. The order of steps is that of map.c,
 * transfer.c and channel.c; functions have their names. What runs there under a
 * spinlock is one step here. A page-table entry and what a processor remembers of
 * it are two things: clearing the one leaves the other until the flush.
 *
 * Rules of the design that are checked:
 *  2. one owner (check_owner), and what the table refuses changes nothing;
 *  3. home with the last release, and then always (ltl home);
 *  6. nothing is left when everybody has ended (ltl gone), and a page is freed
 *     only when nobody's processor can reach it (fbuf_evict);
 *  7. no store while somebody may rely on the lock (store);
 *  9. no receiver of an uncached channel can read an fbuf that went home.
 *
 * -DTWO, -DKERNEL, -DCLOSER and -DREADER say who takes part beside one receiver;
 * everybody at once takes minutes. Other -Ds leave a step out, and must be found
 * out: tests/host/model has them all.
 */
#include "../../kmod/tests/access_table.h"

#define NAME(name, ...) , name
mtype = { STAY, NOENT, ACCES, BUSY, FAULT, WARN, NEVER ACCESS_STATES(NAME) };

/* The fbuf. */
mtype state = EMPTY;
bool page;		/* it has one */
byte refs;		/* slices in messages */
bool returns;		/* ACCESS_RETURN */
bool torn;		/* the mark of a lock is half written */

/* The pool and its originator. */
bool owner = true;	/* pool->owner */
bool orphan;
bool leaving;		/* on the list pool->leaving */
bool dead;		/* the originator's domain */
byte map_readers;	/* map_sem */
byte map_waiting;
bool revoke_mutex;
bool end_mutex;		/* of the sending end */

/* The message on the channel; and whether the kernel has one with the fbuf. */
bool cached;
byte message_refs;
bool queued[2];
bool held[2];
bool present[2] = true;
bool receiver_ended[2];
bool in_kernel;

/* The originator's window: entry, and what the storing thread's processor has of it. */
#define NONE 0
#define RO 1
#define RW 2
byte pte;
byte tlb;
byte flush_pending;	/* mm->tlb_flush_pending */

/* The receivers' windows. */
bool shown[2];
bool shown_tlb[2];
byte shown_pending[2];

/* Somebody relies on the lock. */
bool promised;

/* Only within a step. */
hidden mtype entry;
hidden byte refused;

/*
 * Steps in the table
 */

#define STEP(TABLE, COLUMN) \
	if TABLE(COLUMN) fi; \
	assert(entry != WARN && entry != NEVER); \
	refused = (entry == NOENT || entry == ACCES || entry == BUSY || entry == FAULT); \
	if :: refused || entry == STAY :: else -> state = entry fi

#define ALLOC(name, alloc, write, send, once, undo, free, leave, gone)	:: state == name -> entry = alloc
#define WRITE(name, alloc, write, send, once, undo, free, leave, gone)	:: state == name -> entry = write
#define SEND(name, alloc, write, send, once, undo, free, leave, gone)	:: state == name -> entry = send
#define ONCE(name, alloc, write, send, once, undo, free, leave, gone)	:: state == name -> entry = once
#define UNDO(name, alloc, write, send, once, undo, free, leave, gone)	:: state == name -> entry = undo
#define GIVE_UP(name, alloc, write, send, once, undo, free, leave, gone)	:: state == name -> entry = free
#define LEAVE(name, alloc, write, send, once, undo, free, leave, gone)	:: state == name -> entry = leave
#define GONE(name, alloc, write, send, once, undo, free, leave, gone)	:: state == name -> entry = gone
#define LOCK(name, lock, revoked, sent, home, back)	:: state == name -> entry = lock
#define REVOKED(name, lock, revoked, sent, home, back)	:: state == name -> entry = revoked
#define HANDED(name, lock, revoked, sent, home, back)	:: state == name -> entry = sent
#define HOME(name, lock, revoked, sent, home, back)	:: state == name -> entry = home
#define BACK(name, lock, revoked, sent, home, back)	:: state == name -> entry = back

#define IF_READ(name, s, flags, write, read, receiver, locked) || (read && state == name)
#define IF_RECEIVER(name, s, flags, write, read, receiver, locked) || (receiver && state == name)
#define IF_LOCKED(name, s, flags, write, read, receiver, locked) || (locked && state == name)
#define ORIGINATOR_MAY_READ (false ACCESS_STATES(IF_READ))
#define RECEIVER_MAY_READ (false ACCESS_STATES(IF_RECEIVER))

#define IS_FREE (state == FREE || state == FREE_RW)
#define IS_OWNED (state == OWNED || state == OWNED_RW)
#define IS_SENT (state == SENT || state == SENT_RW || state == SENT_REVOKE || state == SENT_LOCKED)
#define IS_SENDING (state == SENDING || state == SENDING_RW || state == SENDING_REVOKE || \
		    state == SENDING_LOCKED)
#define IN_REVOKE (state == SENDING_REVOKE || state == SENT_REVOKE)

#ifdef TOLD_IN_REVOKE
#define IS_LOCKED ((false ACCESS_STATES(IF_LOCKED)) || IN_REVOKE)
#else
#define IS_LOCKED ((false ACCESS_STATES(IF_LOCKED)) || torn)
#endif

#define HOLDERS (queued[0] || queued[1] || held[0] || held[1] || in_kernel)

/* Rule 2: the originator's or the pool's, or the receivers' and the kernel's. */
inline check_owner() {
	assert(IS_SENT || IS_SENDING || (refs == 0 && message_refs == 0 && !HOLDERS && !promised))
}

/* Rule 7. */
inline store() {
	assert(!promised)
}

/*
 * map.c
 */

/*
 * map_sem. Who holds it for reading does so from the check of a right to the
 * insertion; both begin and end a step. Writers pass through, and come before
 * readers who ask later.
 */
#ifdef FAULT_OUTSIDE_MAP_SEM
#define DOWN_READ true
#define UP_READ skip
#else
#define DOWN_READ !map_waiting -> map_readers++
#define UP_READ map_readers--
#endif

#define MAP_BARRIER map_waiting++; atomic { !map_readers -> map_waiting-- }
#ifdef NO_BARRIER
#define REVOCATION_BARRIER skip
#else
#define REVOCATION_BARRIER MAP_BARRIER
#endif

/* A fault for writing in the originator's window; also map_give(). */
inline fault_write() {
	d_step {
		DOWN_READ;
		refused = true;
		if
		:: !dead -> STEP(ACCESS_OWN, WRITE)
		:: else
		fi;
		may = !refused
	}
	d_step {
		if
		:: may -> pte = RW
		:: else
		fi;
		may = false;
		UP_READ
	}
}

inline fault_read() {
	d_step { DOWN_READ; may = !dead && ORIGINATOR_MAY_READ }
	d_step {
		if
		:: may && pte == NONE -> pte = RO
		:: else
		fi;
		may = false;
		UP_READ
	}
}

/*
 * Remove the originator's entries. A single short run is zapped as the core does
 * it: it flushes when it found something, or when it sees that somebody else has
 * a flush to do. Of several runs, each is cleared, and there is one flush at the end.
 */
inline window_zap() {
	atomic { flush_pending++; found = (pte != NONE); pte = NONE };
	d_step {
		if
		:: found || flush_pending > 1 -> tlb = NONE
		:: else
		fi;
		flush_pending--;
		found = false;
	}
}

inline removal() {
	if
	:: true -> window_zap()
	:: true ->
		pte = NONE;
#ifndef NO_FLUSH
		tlb = NONE
#endif
	fi
}

inline map_revoke() {
	if
	:: IN_REVOKE ->
		/* revocation_begin */
#ifndef NO_REVOKE_MUTEX
		atomic { !revoke_mutex -> revoke_mutex = true }
#endif
		if
		:: owner -> REVOCATION_BARRIER; removal()
		:: !owner
		fi;
		/* revocation_end */
#ifndef NO_REVOKE_MUTEX
		revoke_mutex = false
#endif
	:: else
	fi;
	/* revocation_done */
	d_step { STEP(ACCESS_SHARED, REVOKED) }
}

/* Take the fbuf out of a receiver's window. */
inline window_hide(i) {
	MAP_BARRIER;
	atomic { shown_pending[i]++; shown[i] = false };
	d_step { shown_tlb[i] = false; shown_pending[i]-- }
}

/*
 * transfer.c
 */

inline transfer_secure() {
#ifdef FLUSH_BEFORE_MARK
	MAP_BARRIER;
	removal();
	d_step {
		STEP(ACCESS_SHARED, LOCK);
		if
		:: IN_REVOKE -> STEP(ACCESS_SHARED, REVOKED)
		:: else
		fi
	}
#else
#ifdef TORN_MARK
	torn = (state == SENT_RW);
#endif
	d_step { STEP(ACCESS_SHARED, LOCK); may = IN_REVOKE; torn = false }
	if
	:: may -> atomic { may = false }; map_revoke()
	:: else
	fi;
#endif
	promised = true
}

/* An fbuf that is LEAVING loses its page. Rule 6: nobody can reach it any more. */
inline fbuf_evict() {
#ifndef FREE_MAPPED
	MAP_BARRIER;
	window_zap();
#endif
	d_step {
#ifndef FREE_MAPPED
		if :: shown[0] || shown_pending[0] -> shown_tlb[0] = false :: else fi;
		if :: shown[1] || shown_pending[1] -> shown_tlb[1] = false :: else fi;
		shown[0] = false;
		shown[1] = false;
#endif
		assert(pte == NONE && tlb == NONE);
		assert(!shown[0] && !shown[1] && !shown_tlb[0] && !shown_tlb[1]);
		page = false;
		STEP(ACCESS_OWN, GONE);
		check_owner()
	}
}

inline pool_reap() {
	if
	:: atomic { leaving -> leaving = false }; fbuf_evict()
	:: else
	fi
}

/* Context: within a step. */
inline pool_leave() {
	STEP(ACCESS_OWN, LEAVE);
	leaving = true
}

/* The last slice is gone. Context: within a step. */
inline fbuf_go_home() {
	promised = false;
	if
	:: returns -> STEP(ACCESS_SHARED, BACK)
	:: else -> STEP(ACCESS_SHARED, HOME)
	fi;
	returns = false;
	assert(cached || (!shown[0] && !shown[1] && !shown_tlb[0] && !shown_tlb[1]));
#ifndef KEEP_ORPHAN
	if
	:: orphan -> pool_leave()
	:: else
	fi
#endif
}

/* Context: within a step. */
inline segment_put() {
	refs--;
#ifdef HOME_EARLY
	refs = 0;
#endif
	if
	:: refs == 0 && IS_SENT -> fbuf_go_home(); check_owner()
	:: refs == 0 && !IS_SENT ->
		STEP(ACCESS_OWN, UNDO);
		if
		:: orphan -> pool_leave()
		:: else
		fi
	:: else
	fi
}

/* A reference to the message is given up. */
inline transfer_drop() {
	atomic {
#ifdef HOME_EARLY
		may = true;
#else
		message_refs--;
		may = (message_refs == 0)
#endif
	}
	if
	:: may -> d_step { may = false; segment_put() }; pool_reap()
	:: else
	fi
}

/*
 * The originator
 */

/* One thread stores and reads wherever it can, and faults where it cannot. */
proctype storer() {
	bool may;

	do
	:: atomic { tlb == RW -> store() }
	:: atomic { tlb != RW && pte == RW -> tlb = RW; store() }
	:: atomic { tlb == NONE && pte == RO -> tlb = RO }
	:: tlb != RW && pte != RW -> fault_write()
	:: tlb == NONE && pte == NONE -> fault_read()
	od
}

/* One allocates, sends, hands to the kernel and frees. */
proctype sender() {
	bool may, found;

	do
	/* transfer_alloc */
	:: atomic { !dead && (state == EMPTY || IS_FREE) };
		d_step {
			if
			:: !orphan && (state == EMPTY || IS_FREE) ->
				check_owner();
				page = true;
				STEP(ACCESS_OWN, ALLOC);
				may = (state == OWNED)
			:: else
			fi
		}
		if
		:: may -> fault_write()
		:: else
		fi
	/* pool_make_room */
	:: atomic { !dead && IS_FREE };
		d_step {
			if
			:: !orphan && IS_FREE -> STEP(ACCESS_OWN, LEAVE); may = true
			:: else
			fi
		}
		if
		:: may -> atomic { may = false }; fbuf_evict()
		:: else
		fi
	/* transfer_free; refused unless it is the caller's */
	:: !dead -> d_step { STEP(ACCESS_OWN, GIVE_UP); if :: orphan && IS_FREE -> pool_leave() :: else fi };
		pool_reap()
	/* channel_send */
	:: atomic { !dead && !end_mutex -> end_mutex = true };
		if
		:: dead
		:: else ->
			if
			:: true -> d_step { STEP(ACCESS_OWN, SEND); may = !refused }
			/* Nothing can fail for it any more. */
			:: true -> d_step { STEP(ACCESS_OWN, ONCE); may = !refused }
			fi;
			if
			:: may ->
				atomic { may = false; refs = 1 };
				if
				/* Another message of the call fails, or its arguments. */
				:: IS_SENDING -> d_step { segment_put() }; pool_reap()
				:: true ->
					if
					:: true -> transfer_secure()
					:: true	/* a volatile channel */
					fi;
					d_step { STEP(ACCESS_SHARED, HANDED) }
					/* channel_deliver */
					d_step {
						message_refs = present[0] + present[1];
						queued[0] = present[0];
						queued[1] = present[1];
						if
						:: message_refs == 0 -> message_refs = 1; may = true
						:: else
						fi
					}
					if
					:: may -> transfer_drop()
					:: else
					fi
				fi
			:: else
			fi
		fi;
		end_mutex = false
#ifdef KERNEL
	/* FBUFS_IO of an own fbuf */
	:: !dead ->
		d_step {
			STEP(ACCESS_OWN, SEND);
			may = !refused;
			if
			:: may -> refs = 1
			:: else
			fi
		}
		if
		:: may ->
			atomic { may = false };
			transfer_secure();
			d_step { STEP(ACCESS_SHARED, HANDED); returns = true; in_kernel = true }
		:: else
		fi
#endif
	:: dead -> break
	od
}

/* One closes the device, or the process is killed: its threads do no more then. */
proctype closer() {
	bool found;

	/* domain_end_members */
	dead = true;
	atomic { !end_mutex -> end_mutex = true };
	end_mutex = false;
#ifdef FORGET_OWNER_FIRST
	owner = false;
#endif
	/* map_hide_all */
	MAP_BARRIER;
	window_zap();
	/* pool_abandon */
	d_step {
		owner = false;
		orphan = true;
		if
		:: IS_FREE || IS_OWNED -> pool_leave()
		:: else
		fi
	}
	pool_reap()
}

/*
 * The receivers
 */

proctype receiver(byte i) {
	bool may, found, told;

	do
	:: queued[i] ->
		/* receive_chunk */
		atomic { told = IS_LOCKED };
#ifdef READER
		shown[i] = true;	/* map_show */
#endif
		d_step { held[i] = true; queued[i] = false; promised = promised || told; told = false }
		if
		/* FBUFS_SECURE: the call has a reference of its own */
		:: true -> atomic { message_refs++ }; transfer_secure(); transfer_drop()
#ifdef KERNEL
		/* FBUFS_IO of a held message */
		:: atomic { !in_kernel && refs == 1 -> refs++ }; transfer_secure(); in_kernel = true
#endif
		:: true
		fi;
		if
		:: true -> /* transfer_release */
#ifdef HIDE_BEFORE_RELEASE
			if :: !cached -> window_hide(i) :: else fi;
			held[i] = false;
#else
			held[i] = false;
			if :: !cached -> window_hide(i) :: else fi;
#endif
			transfer_drop()
		:: true -> break /* it dies */
		fi
	:: true -> break
	od;
	/* transfer_end_domain */
	atomic { present[i] = false; may = queued[i]; queued[i] = false };
	receiver_ended[i] = true;
	if
	:: may -> transfer_drop()
	:: else
	fi;
	window_hide(i);
	d_step { may = held[i]; held[i] = false }
#ifndef LOSE_HELD
	if
	:: may -> transfer_drop()
	:: else
	fi
#endif
}

/* Another thread of the first receiver reads wherever it can. */
proctype reader() {
	bool may;

	do
	:: atomic { shown[0] && !shown_tlb[0] -> shown_tlb[0] = true }
	:: !shown[0] ->
		d_step {
			DOWN_READ;
			may = !receiver_ended[0] && RECEIVER_MAY_READ &&
			      (held[0] || (cached && present[0]))
		}
		d_step { shown[0] = shown[0] || may; may = false; UP_READ }
	od
}

/* The packets are acknowledged, the file is written. */
proctype kernel() {
	bool found;

end:	do
	:: in_kernel -> d_step { in_kernel = false; segment_put() }; pool_reap()
	od
}

init {
	atomic {
#ifdef READER
		if
		:: cached = true
		:: cached = false
		fi;
		run reader();
#else
		run storer();
#endif
		run sender();
		run receiver(0);
#ifdef TWO
		run receiver(1);
#else
		present[1] = false;
		receiver_ended[1] = true;
#endif
#ifdef CLOSER
		run closer();
#endif
#ifdef KERNEL
		run kernel()
#endif
	}
}

/* Rule 3. */
ltl home { [] (IS_SENT -> <> !IS_SENT) }
/* Rule 6. */
ltl gone { [] ((orphan && receiver_ended[0] && receiver_ended[1]) -> <> (state == EMPTY && !page)) }
