/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * Who may do what with an fbuf, as tables: a second statement of what access.h
 * says in code. tests/model/access_test.c holds the code against them, and the
 * model of the protocol, tests/model/ownership.pml, takes its steps from them.
 *
 * A state here is the state together with the flags that matter: RW, LOCKED (and
 * true), or REVOKE (LOCKED, but its writable mappings are still to go). An entry
 * is the state that follows; STAY; NOENT, ACCES, BUSY or FAULT: refused, nothing
 * changes; WARN: the module warns of its own bug; NEVER: nobody asks for that.
 *
 * Include it where ROW is defined, once for each of the three tables.
 */
#ifndef FBUFS_ACCESS_TABLE_H
#define FBUFS_ACCESS_TABLE_H

/*
 * What it is in the code; who may now: the originator write, the originator
 * read, a receiver read; and whether receivers are told that nobody can write.
 */
#define ACCESS_STATES(ROW) \
/*  state           state    flags            write read recv locked */ \
ROW(EMPTY,          EMPTY,   0,               0,    0,   0,   0) \
ROW(OWNED,          OWNED,   0,               1,    1,   1,   0) \
ROW(OWNED_RW,       OWNED,   RW,              1,    1,   1,   0) \
ROW(SENDING,        SENDING, 0,               1,    1,   1,   0) \
ROW(SENDING_RW,     SENDING, RW,              1,    1,   1,   0) \
ROW(SENDING_REVOKE, SENDING, LOCKED | REVOKE, 0,    1,   1,   0) \
ROW(SENDING_LOCKED, SENDING, LOCKED,          0,    1,   1,   1) \
ROW(SENT,           SENT,    0,               1,    1,   1,   0) \
ROW(SENT_RW,        SENT,    RW,              1,    1,   1,   0) \
ROW(SENT_REVOKE,    SENT,    LOCKED | REVOKE, 0,    1,   1,   0) \
ROW(SENT_LOCKED,    SENT,    LOCKED,          0,    1,   1,   1) \
ROW(FREE,           FREE,    0,               0,    0,   1,   0) \
ROW(FREE_RW,        FREE,    RW,              0,    0,   1,   0) \
ROW(LEAVING,        LEAVING, 0,               0,    0,   0,   0) \
ROW(LEAVING_RW,     LEAVING, RW,              0,    0,   0,   0)

/*
 * alloc: it becomes the originator's; write: the originator is given write
 * access; send: it is named in a send call; once: in one that cannot fail any more
 * for it (BUSY: that it has to ask more); undo: the call fails; free: it is not sent
 * after all; leave: it is about to lose its pages; gone: it has.
 */
#define ACCESS_OWN(ROW) \
/*  state           alloc     write       send        once     undo      free     leave       gone */ \
ROW(EMPTY,          OWNED,    FAULT,      NOENT,      BUSY,    WARN,     NOENT,   WARN,       WARN) \
ROW(OWNED,          WARN,     OWNED_RW,   SENDING,    SENT,    WARN,     FREE,    LEAVING,    WARN) \
ROW(OWNED_RW,       WARN,     OWNED_RW,   SENDING_RW, SENT_RW, WARN,     FREE_RW, LEAVING_RW, WARN) \
ROW(SENDING,        WARN,     SENDING_RW, STAY,       BUSY,    OWNED,    BUSY,    WARN,       WARN) \
ROW(SENDING_RW,     WARN,     SENDING_RW, STAY,       BUSY,    OWNED_RW, BUSY,    WARN,       WARN) \
ROW(SENDING_REVOKE, WARN,     FAULT,      STAY,       BUSY,    NEVER,    BUSY,    WARN,       WARN) \
ROW(SENDING_LOCKED, WARN,     FAULT,      STAY,       BUSY,    NEVER,    BUSY,    WARN,       WARN) \
ROW(SENT,           WARN,     SENT_RW,    ACCES,      BUSY,    WARN,     BUSY,    WARN,       WARN) \
ROW(SENT_RW,        WARN,     SENT_RW,    ACCES,      BUSY,    WARN,     BUSY,    WARN,       WARN) \
ROW(SENT_REVOKE,    WARN,     FAULT,      ACCES,      BUSY,    WARN,     BUSY,    WARN,       WARN) \
ROW(SENT_LOCKED,    WARN,     FAULT,      ACCES,      BUSY,    WARN,     BUSY,    WARN,       WARN) \
ROW(FREE,           OWNED,    FAULT,      NOENT,      BUSY,    WARN,     NOENT,   LEAVING,    WARN) \
ROW(FREE_RW,        OWNED_RW, FAULT,      NOENT,      BUSY,    WARN,     NOENT,   LEAVING_RW, WARN) \
ROW(LEAVING,        WARN,     FAULT,      NOENT,      BUSY,    WARN,     NOENT,   WARN,       EMPTY) \
ROW(LEAVING_RW,     WARN,     FAULT,      NOENT,      BUSY,    WARN,     NOENT,   WARN,       EMPTY)

/*
 * lock: by a send call, or by who calls secure; revoked: the lock has become
 * true; sent: the send call succeeds; home: the last release; back: the last
 * release of what is to be returned to its originator.
 */
#define ACCESS_SHARED(ROW) \
/*  state           lock            revoked         sent         home     back */ \
ROW(EMPTY,          WARN,           NEVER,          NEVER,       WARN,    WARN) \
ROW(OWNED,          WARN,           NEVER,          NEVER,       WARN,    WARN) \
ROW(OWNED_RW,       WARN,           NEVER,          NEVER,       WARN,    WARN) \
ROW(SENDING,        SENDING_LOCKED, NEVER,          SENT,        WARN,    WARN) \
ROW(SENDING_RW,     SENDING_REVOKE, NEVER,          SENT_RW,     WARN,    WARN) \
ROW(SENDING_REVOKE, STAY,           SENDING_LOCKED, SENT_REVOKE, WARN,    WARN) \
ROW(SENDING_LOCKED, STAY,           STAY,           SENT_LOCKED, WARN,    WARN) \
ROW(SENT,           SENT_LOCKED,    NEVER,          STAY,        FREE,    OWNED) \
ROW(SENT_RW,        SENT_REVOKE,    NEVER,          STAY,        FREE_RW, OWNED_RW) \
ROW(SENT_REVOKE,    STAY,           SENT_LOCKED,    STAY,        FREE_RW, OWNED_RW) \
ROW(SENT_LOCKED,    STAY,           STAY,           STAY,        FREE,    OWNED) \
ROW(FREE,           WARN,           NEVER,          NEVER,       WARN,    WARN) \
ROW(FREE_RW,        WARN,           NEVER,          NEVER,       WARN,    WARN) \
ROW(LEAVING,        WARN,           NEVER,          NEVER,       WARN,    WARN) \
ROW(LEAVING_RW,     WARN,           NEVER,          NEVER,       WARN,    WARN)

#endif
