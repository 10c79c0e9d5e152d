# SPDX-License-Identifier: GPL-2.0
# The targets that people use; 'make help' lists them.

VERSION := 0.1.0
B := build
KERNEL ?= stock
ICOUNT ?=
CMD ?=
TIMEOUT ?= 900
VMFLAGS ?=
PREFIX ?= /usr/local
DESTDIR ?=
CXX ?= g++
SANITIZE ?=

# The module for the machine itself is built against its own kernel, if that has headers and is
# new enough; else against the kernel of the test VM, which shows that it builds.
HOST_KDIR := $(wildcard /lib/modules/$(shell uname -r)/build)
HOST_KDIR_OK := $(if $(HOST_KDIR),$(shell printf '%s\n' 6.12 "$$(uname -r)" | sort -VC && echo yes))

SHELL := /bin/bash
MAKEFLAGS += -j$(shell nproc)
.DEFAULT_GOAL := all
all: modules lib tools examples ## the module, the library, the command and the examples

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16
	@echo "Variables: CMD='...' KERNEL=stock|debug|kcsan ICOUNT=1 TIMEOUT=s (vm), OLD, NEW (bench-compare), PREFIX, DESTDIR (install), KDIR (modules)"

# --- dependencies, only when something needs them ---------------------------

$(B)/.deps-%: tests/vm/deps
	@mkdir -p $(B)
	@tests/vm/deps $*
	@touch $@

# --- the module --------------------------------------------------------------

KMOD_SOURCES := $(shell find kmod -type f)

# kbuild puts objects beside the sources: each kernel gets a tree of links.
$(B)/kmod-%/fbufs.ko: $(KMOD_SOURCES) | $(B)/.deps-build
	@mkdir -p $(B)/kmod-$*
	@cp -rsfT $(CURDIR)/kmod $(B)/kmod-$*
	+$(MAKE) -C $(if $(filter host,$*),$(KDIR),$$(tests/vm/kernel $* --headers)) M=$(CURDIR)/$(B)/kmod-$* W=1 \
		$(if $(filter debug kcsan,$*),CONFIG_FBUFS_KUNIT_TEST=y) modules

ifneq ($(KDIR)$(HOST_KDIR_OK),)
KDIR ?= $(HOST_KDIR)
modules: $(B)/kmod-host/fbufs.ko ## the module, for the running kernel (or KDIR=)
else
modules: $(B)/kmod-stock/fbufs.ko
	@echo "make: no headers of a kernel from 6.12 on for $$(uname -r); built for the test VM's kernel" >&2
endif

load: ## load the module into the running kernel (as root)
	@[ -e $(B)/kmod-host/fbufs.ko ] || { echo "make load: no module for $$(uname -r): install its headers (6.12 or newer), then 'make'" >&2; exit 1; }
	insmod $(B)/kmod-host/fbufs.ko
	@getent group fbufs >/dev/null && chgrp fbufs /dev/fbufs || true

unload: ## unload it (as root); refused while somebody uses it
	rmmod fbufs

# --- the library and the command ---------------------------------------------

WARN := -Wall -Wextra -Wshadow -Wconversion -Wnon-virtual-dtor -Werror
CXXFLAGS ?= -O2 -g
SANITIZED := $(if $(SANITIZE),-O0 -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer)
COMPILE = $(CXX) -std=c++23 $(WARN) $(CXXFLAGS) $(SANITIZED) -MMD -MP
INCLUDES := -Ilibfbuf/include -Ikmod/include/uapi
LIB_SOURCES := $(wildcard libfbuf/src/*.cpp)
LIB_OBJECTS := $(LIB_SOURCES:libfbuf/src/%.cpp=$(B)/libfbuf/%.o)
SONAME := libfbuf.so.0

$(B)/libfbuf/%.o: libfbuf/src/%.cpp | $(B)/.deps-build
	@mkdir -p $(@D)
	$(COMPILE) -fPIC $(INCLUDES) -c $< -o $@

$(B)/libfbuf.a: $(LIB_OBJECTS)
	$(AR) rcs $@ $^

$(B)/$(SONAME): $(LIB_OBJECTS) libfbuf/libfbuf.map
	$(CXX) $(SANITIZED) -shared -Wl,-soname,$(SONAME) -Wl,--version-script,libfbuf/libfbuf.map -o $@ $(LIB_OBJECTS)

lib: $(B)/libfbuf.a $(B)/$(SONAME) ## libfbuf, static and shared

TOOL_SOURCES := $(wildcard tools/fbuf/*.cpp)
TOOL_OBJECTS := $(TOOL_SOURCES:tools/fbuf/%.cpp=$(B)/fbuf.d/%.o)

$(B)/fbuf.d/%.o: tools/fbuf/%.cpp | $(B)/.deps-build
	@mkdir -p $(@D)
	$(COMPILE) -DFBUF_VERSION='"$(VERSION)"' $(INCLUDES) -c $< -o $@

$(B)/fbuf: $(TOOL_OBJECTS) $(B)/libfbuf.a
	$(CXX) $(SANITIZED) -o $@ $^ -lcrypto

tools: $(B)/fbuf ## the command fbuf

# Small real programs, each by read and write or by fbufs.
APPS := $(patsubst libfbuf/examples/apps/%.cpp,$(B)/examples/apps/%,$(filter-out %/stream.cpp,$(wildcard libfbuf/examples/apps/*.cpp)))

$(B)/examples.d/%.o: libfbuf/examples/%.cpp | $(B)/.deps-build
	@mkdir -p $(@D)
	$(COMPILE) -Ilibfbuf/include -c $< -o $@

$(APPS): $(B)/examples/apps/%: $(B)/examples.d/apps/%.o $(B)/examples.d/apps/stream.o $(B)/libfbuf.a
	@mkdir -p $(@D)
	$(CXX) $(if $(SANITIZE),-fsanitize=$(SANITIZE)) -o $@ $^

examples: $(APPS)

-include $(wildcard $(B)/libfbuf/*.d $(B)/fbuf.d/*.d $(B)/examples.d/*/*.d $(B)/tests.d/*/*.d)

# Programs for the sample drivers of kmod/samples.
DRIVER_EXAMPLES := $(patsubst libfbuf/examples/%.cpp,$(B)/examples/%,$(wildcard libfbuf/examples/drivers/*.cpp))

$(DRIVER_EXAMPLES): $(B)/examples/%: libfbuf/examples/%.cpp libfbuf/examples/drivers/driver.hpp kmod/samples/fbufs_samples.h $(B)/libfbuf.a
	@mkdir -p $(@D)
	$(CXX) -std=c++23 $(WARN) $(CXXFLAGS) $(INCLUDES) -Ikmod/samples -o $@ $< $(B)/libfbuf.a

examples: $(DRIVER_EXAMPLES) ## the programs of libfbuf/examples

# --- the VM ------------------------------------------------------------------

vm: $(B)/kmod-$(KERNEL)/fbufs.ko ## run CMD='...' in a throw-away VM; a shell without
	@tests/vm/run -k $(KERNEL) $(if $(ICOUNT),-i) -t $(TIMEOUT) $(VMFLAGS) -- $(if $(CMD),'$(subst ','\'',$(CMD))')

# --- tests ---------------------------------------------------------------------

TEST_GROUPS := uapi lib stress kapi fault
TEST_COMPILE = $(CXX) -std=c++23 $(filter-out -Wconversion,$(WARN)) -O1 -g1 $(SANITIZED) -MMD -MP -Itests $(INCLUDES) -Ikmod/samples

define test_group
$(1)_OBJECTS := $$(patsubst tests/$(1)/%.cpp,$(B)/tests.d/$(1)/%.o,$$(wildcard tests/$(1)/*.cpp))
$(B)/tests.d/$(1)/%.o: tests/$(1)/%.cpp | $(B)/.deps-build
	@mkdir -p $$(@D)
	$$(TEST_COMPILE) -c $$< -o $$@
$(B)/tests/$(1): $$($(1)_OBJECTS) $(B)/libfbuf.a
	@mkdir -p $$(@D)
	$(CXX) $(SANITIZED) -o $$@ $$^ -lgtest -lgtest_main -luring -lpthread
endef
$(foreach group,$(TEST_GROUPS),$(eval $(call test_group,$(group))))

TESTS := $(TEST_GROUPS:%=$(B)/tests/%)
tests: $(TESTS)

check: $(B)/kmod-stock/fbufs.ko $(TESTS) sanitized-tests tools examples ## all tests, in the VM; some under the debug kernel, too, where that is built
	@tests/check stock

check-debug: $(B)/kmod-debug/fbufs.ko $(TESTS) tools examples ## the same under KASAN, lockdep and the other checkers
	@tests/check debug

check-long: $(B)/kmod-stock/fbufs.ko $(B)/kmod-debug/fbufs.ko $(B)/kmod-kcsan/fbufs.ko $(TESTS) tools $(B)/tests/fuzz ## lossy links, races, deaths and fuzzing at length
	@tests/check-long

# libFuzzer is clang's.
FUZZ_SOURCES := $(wildcard tests/fuzz/*.cpp)
$(B)/tests/fuzz: $(FUZZ_SOURCES) $(wildcard tests/fuzz/*.hpp tests/support/*.hpp) kmod/include/uapi/linux/fbufs.h | $(B)/.deps-build $(B)/.deps-fuzz
	@mkdir -p $(@D)
	clang++ -std=c++2b -Wall -Wextra -Wshadow -Werror -O1 -g -fsanitize=fuzzer -Itests $(INCLUDES) -o $@ $(FUZZ_SOURCES) -lgtest -lpthread

fuzz: KERNEL = debug
fuzz: SECONDS = 300
fuzz: $(B)/tests/fuzz ## the whole interface, in the VM, for SECONDS=300, KERNEL=debug|kcsan
	@$(MAKE) --no-print-directory $(B)/kmod-$(KERNEL)/fbufs.ko
	@tests/fuzz/run $(KERNEL) $(SECONDS)

# Each sanitizer has a build folder of its own, and looks for packages itself: not while others are being installed.
sanitized-tests: | $(B)/.deps-build
	+@$(MAKE) --no-print-directory B=$(B)/asan SANITIZE=address,undefined $(B)/asan/tests/lib
	+@$(MAKE) --no-print-directory B=$(B)/tsan SANITIZE=thread $(B)/tsan/tests/lib

check-sanitize: $(B)/kmod-stock/fbufs.ko sanitized-tests ## the library's tests, as in check, and the command with sanitizers
	+@$(MAKE) --no-print-directory B=$(B)/asan SANITIZE=address,undefined $(B)/asan/fbuf
	@tests/vm/deps test
	@tests/vm/run -t 900 -- tests/guest-sanitize

lint: | $(B)/.deps-build $(B)/.deps-lint ## checkpatch, sparse, formats, spelling, manuals
	@tests/lint

demo: $(B)/kmod-stock/fbufs.ko tools ## a real file from one process to two others, and the lock at work
	@tests/vm/run -t 600 -- tests/demo

bench: $(B)/kmod-stock/fbufs.ko tools examples | $(B)/.deps-bench ## every way to move data, in instruction time, and Documentation/performance.rst from it
	@tests/bench full

bench-quick: $(B)/kmod-stock/fbufs.ko tools | $(B)/.deps-bench ## the same for few sizes, to build/bench/quick.jsonl
	@tests/bench quick

bench-compare: | $(B)/.deps-bench ## what changed by more than 2 % between the records OLD= and NEW=
	@tests/bench-compare $(OLD) $(NEW)

bench-check: $(B)/kmod-stock/fbufs.ko tools | $(B)/.deps-bench ## whether a core figure is 5 % worse than tests/bench-baseline.jsonl
	@tests/bench-check

# --- installation --------------------------------------------------------------

install: lib tools ## library, headers, command, manuals, udev rule (PREFIX=, DESTDIR=)
	install -d $(DESTDIR)$(PREFIX)/{bin,lib/pkgconfig,include/fbuf,include/linux,share/man/man1,share/man/man3,share/man/man4,share/bash-completion/completions}
	install -m 755 $(B)/fbuf $(DESTDIR)$(PREFIX)/bin/
	install -m 644 $(B)/libfbuf.a $(DESTDIR)$(PREFIX)/lib/
	install -m 755 $(B)/$(SONAME) $(DESTDIR)$(PREFIX)/lib/
	ln -sf $(SONAME) $(DESTDIR)$(PREFIX)/lib/libfbuf.so
	sed 's#@PREFIX@#$(PREFIX)#; s#@VERSION@#$(VERSION)#' libfbuf/libfbuf.pc.in >$(DESTDIR)$(PREFIX)/lib/pkgconfig/libfbuf.pc
	install -m 644 libfbuf/include/fbuf/*.hpp $(DESTDIR)$(PREFIX)/include/fbuf/
	install -m 644 kmod/include/uapi/linux/fbufs.h $(DESTDIR)$(PREFIX)/include/linux/
	install -m 644 Documentation/man/fbuf.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -m 644 Documentation/man/libfbuf.3 $(DESTDIR)$(PREFIX)/share/man/man3/
	install -m 644 Documentation/man/fbufs.4 $(DESTDIR)$(PREFIX)/share/man/man4/
	$(B)/fbuf completion >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/fbuf
	install -d $(DESTDIR)/lib/udev/rules.d
	install -m 644 kmod/60-fbufs.rules $(DESTDIR)/lib/udev/rules.d/

clean: ## remove build/
	rm -rf $(B)

.SECONDARY:
.PHONY: all help modules lib tools load unload vm clean install tests sanitized-tests examples check check-debug check-long check-sanitize fuzz lint demo bench bench-quick bench-compare bench-check
