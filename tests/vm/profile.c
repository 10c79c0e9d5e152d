// SPDX-License-Identifier: GPL-2.0-or-later
// Copyright (c) 2026 The fbufs authors
/*
 * A plugin for QEMU's emulator that counts retired instructions by where they are, between two marks that
 * the guest passes: 'nopl MARK_BEGIN(%rax)' and 'nopl MARK_END(%rax)', which do nothing on any machine.
 * tests/vm/profile builds it and makes a table by function of what it writes.
 *
 * Debian's QEMU has the interface but not its header: what is used of it is declared here, as in
 * include/qemu/qemu-plugin.h of QEMU 7.2 (version 1).
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { NO_REGISTERS = 0, INLINE_ADD_U64 = 0 };

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
					   void (*fn)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int op, void *counter, uint64_t add);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, void (*fn)(unsigned int, void *),
					    int registers, void *data);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*fn)(qemu_plugin_id_t, void *), void *data);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

#define MARK_BEGIN 0x46420001
#define MARK_END 0x46420002

/* A block of code as it was translated; the same place may be translated several times. */
struct block {
	struct block *next;
	uint64_t address;
	uint64_t executed;	/* instructions since the last mark */
	uint64_t counted;	/* between marks */
};

static struct block *blocks;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *output = "/dev/stderr";

static void pass_mark(unsigned int cpu, void *data)
{
	const bool ends = data;

	pthread_mutex_lock(&lock);
	for (struct block *each = blocks; each; each = each->next) {
		if (ends)
			each->counted += each->executed;
		each->executed = 0;
	}
	pthread_mutex_unlock(&lock);
}

static uint32_t mark_of(const struct qemu_plugin_insn *insn)
{
	const unsigned char *bytes = qemu_plugin_insn_data(insn);
	uint32_t displacement;

	if (qemu_plugin_insn_size(insn) != 7 || memcmp(bytes, "\x0f\x1f\x80", 3))
		return 0;
	memcpy(&displacement, bytes + 3, sizeof(displacement));
	return displacement;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	const size_t n = qemu_plugin_tb_n_insns(tb);
	struct block *block = calloc(1, sizeof(*block));

	block->address = qemu_plugin_tb_vaddr(tb);
	pthread_mutex_lock(&lock);
	block->next = blocks;
	blocks = block;
	pthread_mutex_unlock(&lock);
	qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &block->executed, n);
	for (size_t i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		const uint32_t mark = mark_of(insn);

		if (mark == MARK_BEGIN || mark == MARK_END)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, pass_mark, NO_REGISTERS,
							       (void *)(uintptr_t)(mark == MARK_END));
	}
}

static void ended(qemu_plugin_id_t id, void *data)
{
	FILE *to = fopen(output, "w");

	for (struct block *each = blocks; to && each; each = each->next)
		if (each->counted)
			fprintf(to, "%llx %llu\n", (unsigned long long)each->address, (unsigned long long)each->counted);
	if (to)
		fclose(to);
}

struct qemu_info;
__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info,
							       int argc, char **argv)
{
	for (int i = 0; i < argc; i++)
		if (!strncmp(argv[i], "out=", 4))
			output = strdup(argv[i] + 4);
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	qemu_plugin_register_atexit_cb(id, ended, NULL);
	return 0;
}
