# TINT's build: two kernels, the ring-3 programs and the initrd out of one tree.
#
## TINT: there is no thread. What make does:
##
##   make              both kernels, the initrd and the scratch disk
##   make setup        install what is missing (apt), say nothing if nothing is
##   make run          boot, run `nothread`, stay at the prompt
##   make debug        boot the checked kernel paused, with gdb attached
##   make tour         walk along one write in gdb, stage by stage
##   make trace        run `nothread`, draw what the kernel did: build/trace.*
##   make proof        is it true that nobody waits? Judged from outside
##   make test         all tests; the last line is `N passed, N failed`
##   make bench        what operations cost, in guest instructions, beside Linux's
##   make stress       the tests with their full numbers (STRESS=1)
##   make lab N=1      an assignment: a tree in which a part is missing (1 to 3)
##   make grade N=1    grade the answer in this tree, or in LAB=folder
##   make lint         only the rules of the house
##   make rules        write docs/RULES.md: which test holds which rule of NT
##   make iso          build/tint.iso, for GRUB
##   make size         code lines against their limits
##   make clean        remove what was built, but not the disks and labs
##   make distclean    remove build/ with the disks
##
## Variables:
##   ARGS='echo "a b"' run: this program instead, then leave QEMU. Blanks separate
##                     words, "..." groups, \\ \" \' escape, any other \ is itself
##   FILES='path ...'  pack these host files into the initrd as B:\files\NAME
##   EXTRA='a.c ...'   build these ring-3 programs into the initrd as well
##   KTESTS='t.c ...'  link these in-kernel tests into the checked kernel as well
##   KERNEL=FILE       proof: another kernel; WRITES=N: only so many writes
##   CPUS=N MEM=SIZE   run, debug, tour, trace, proof: processors (1), memory (128M)
##   DISK=ide|nvme     the same: the bus of the disks (nvme)
##   QEMU=only         debug: only the guest, for an editor or a gdb of your own
##   REPLAY=1          debug: record a run, then go through it both ways
##   BATCH=1           tour: go on by itself; fails if a stage is not as it must be
##   SPEED=full        run: do not slow the scratch disk down for the eye
##   KOPTS='k=v ...'   run, debug: kernel options (port=direct trace=all ...)
##   ISO=1             run: boot through GRUB from an ISO
##   ROWS=1,2 BOOTS=N  bench: these rows (help: which there are), boots a figure (3)
##   PEER=linux        bench: with Linux beside it, from Debian's packages
##   CHECK=1 RECORD=1  bench: hold rows 1 and 2 to their record; write the record
##   WHERE=1           bench: where the instructions go, for docs/INSTRUCTIONS.md
##   LEVEL=host        test: one of lint host kernel user qemu labs
##   CHECKED=1         test: tests/qemu on the checked kernel where either will do
##   T=expression      test: only tests whose name matches (pytest -k)
##   N=1 TO=folder     lab: which, and where it goes (build/lab1)
##   LAB=folder        grade: the answer; ONLY=name: that check; OUT=folder:
##                     the results; SEED=n: the scripts of an earlier grade
##   CC=clang          another compiler; CROSS_COMPILE=prefix- for a cross gcc
##   WERROR=1          warnings are errors
##   BUILD=dir         build somewhere else than in build/
##   V=1               print every command in full

BUILD  ?= build
LEVEL  ?=
T      ?=
EXTRA  ?=
FILES  ?=
KTESTS ?=

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

ifneq ($(filter . ./ .. / ,$(BUILD))$(word 2,$(BUILD))$(if $(BUILD),,empty),)
$(error BUILD must name a folder of its own, such as build, without blanks)
endif

# ---------------------------------------------------------------- make setup
# `make setup run`: the rest of this file asks the compiler questions, so with
# `setup` among the goals this make only installs, then starts make anew.

REST := $(filter-out setup,$(MAKECMDGOALS))
ifneq ($(filter setup,$(MAKECMDGOALS)),)
.NOTPARALLEL:
.PHONY: setup $(REST)
setup:
	@tools/setup.sh
$(REST): setup
	@+$(MAKE) --no-print-directory $@
else

# --------------------------------------------------------------------- tools

# What the launcher reads goes to it by the environment, as it was typed: no
# shell and no make looks into it.
HOSTCC ?= gcc
override ARGS := $(value ARGS)
override KOPTS := $(value KOPTS)
export ARGS KOPTS BUILD CPUS MEM DISK SPEED ISO EXTRA KTESTS HOSTCC KERNEL \
       QEMU REPLAY WRITES ROWS BOOTS PEER CHECK RECORD WHERE

first   = $(firstword $(foreach t,$(1),$(if $(shell command -v $(t)),$(t))))
PYTHON := $(call first,python3 /usr/bin/python3)
NASM   ?= nasm

ifeq ($(origin CC),default)
CC := $(if $(CROSS_COMPILE),$(CROSS_COMPILE)gcc,$(call first,x86_64-elf-gcc \
        x86_64-linux-gnu-gcc gcc))
endif
TOOLPREFIX := $(filter %-,$(patsubst %gcc,%,$(notdir $(CC))))
ifeq ($(origin LD),default)
LD := $(call first,$(TOOLPREFIX)ld ld)
endif
ifeq ($(origin AR),default)
AR := $(call first,$(TOOLPREFIX)ar ar)
endif
NM := $(call first,$(TOOLPREFIX)nm nm)

# Their names go through make and a shell.
( := (
) := )
odd := $(strip $(foreach c,` & ; | < > ' " \ = : $$ $(() $()),$(findstring \
           $(c),$(value EXTRA) $(value FILES) $(value KTESTS))))
ifneq ($(odd),)
$(error EXTRA, FILES and KTESTS cannot name what has $(odd) in its name)
endif
ifneq ($(filter-out %.c,$(EXTRA) $(KTESTS)),)
$(error EXTRA and KTESTS name C sources: what is $(filter-out %.c,$(EXTRA) $(KTESTS))?)
endif

# These goals compile nothing and must work without a compiler.
ifneq ($(filter-out help clean distclean size rules lab,$(or $(MAKECMDGOALS),all)),)
need = $(if $(shell command -v $(firstword $(1))),,$(error \
         $(or $(firstword $(1)),$(2)) is missing: `make setup` installs it (package $(2))))
$(call need,$(CC),gcc)
$(call need,$(LD),binutils)
$(call need,$(NASM),nasm)
$(call need,$(PYTHON),python3)
CLANG  := $(if $(findstring clang,$(shell $(CC) --version)),--target=x86_64-elf)
CC_ID  := $(shell $(CC) --version | head -n 1)
CC_INC := $(shell $(CC) -print-file-name=include)
ifeq ($(CLANG)$(findstring x86_64,$(shell $(CC) -dumpmachine)),)
$(error $(CC) does not build for x86-64: install gcc-x86-64-linux-gnu or use CC=clang)
endif
missing := $(strip $(foreach f,$(EXTRA) $(FILES) $(KTESTS),$(if $(wildcard $(f)),,$(f))))
ifneq ($(missing),)
$(error EXTRA, FILES or KTESTS names what does not exist: $(missing))
endif
endif

ifeq ($(V),)
say = @echo '  $(1)	$(2)';
endif

# --------------------------------------------------------------------- flags

# QEMU takes an instruction for an instruction: of 14 processors that gcc was asked
# to tune for, nocona is given the fewest; no nop stands in the way of a loop.
STD  := -std=gnu2x -O2 -g -ffreestanding -fno-stack-protector \
        -mtune=nocona -falign-loops=1 \
        -fno-asynchronous-unwind-tables -fcf-protection=none \
        -fno-strict-aliasing -fno-common -fno-omit-frame-pointer
WARN := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes
# Later NASMs warn of each absolute address in a table; this one has no name for it.
ASFLAGS := -f elf64 -w+all -w-unknown-warning -w-reloc
ifneq ($(WERROR),)
WARN    += -Werror
ASFLAGS += -Werror
endif

# General registers only and no red zone: an interrupt may come at any time.
KFLAGS  := $(CLANG) $(STD) $(WARN) -fno-pic -fno-pie -mcmodel=kernel \
           -mno-red-zone -mgeneral-regs-only -nostdinc -isystem $(CC_INC) -I.
# gcc looks at the free kernel as a whole when it links it: what has one caller
# becomes a part of that. Its objects are complete without, for ld and nm.
LTO     := $(strip $(if $(CLANG)$(filter command environment,$(origin LD)),,\
           $(if $(shell $(CC) -flto -E -x c /dev/null 2>/dev/null),\
           -flto -flto-partition=one -ffat-lto-objects)))
KFLAGS_free := $(KFLAGS) -DDBG=0 $(LTO)
# Undefined behaviour ends in tests/kernel/ubsan.c; every caller has its frame.
KFLAGS_chk  := $(KFLAGS) -DDBG=1 -fno-optimize-sibling-calls \
               -fsanitize=undefined -fno-sanitize-recover=undefined
comma   := ,
LDFLAGS := -nostdlib -static -z max-page-size=0x1000 -z noexecstack --build-id=none
LINK     = $(LD) $(LDFLAGS)

# Programs lie above 4 GiB, hence -fpie; of the host's headers they see none.
UFLAGS  := $(CLANG) $(STD) $(filter-out -Wmissing-prototypes,$(WARN)) -fpie \
           -fvisibility=hidden -nostdinc -isystem user/include \
           -isystem $(CC_INC) -I.
PFLAGS  := $(filter-out -ffreestanding,$(UFLAGS)) -fbuiltin

VERSION := $(or $(shell git describe --always --dirty 2>/dev/null),0.1)

# ------------------------------------------------------------ what is built

KSRC  := $(filter-out kernel/ke/offsets.c,$(sort $(wildcard boot/*.asm boot/*.c \
         kernel/*.c kernel/*/*.c kernel/*/*.asm drivers/*/*.c)))
KTEST := $(sort $(wildcard tests/kernel/*.c) $(KTESTS:./%=%))
ULIB  := $(sort $(wildcard user/lib/*.c user/lib/*.asm))
PROGS := $(sort $(wildcard user/programs/*.c tests/user/*.c) $(EXTRA:./%=%))

# An object lies where its source does, below the folder of its build; what
# comes from outside the tree lies in extra/.
inside = $(filter-out /% ../%,$(1))
outside = $(filter /% ../%,$(1))
objects = $(addprefix $(1)/,$(addsuffix .o,$(basename $(call inside,$(2))) \
          $(addprefix extra/,$(basename $(notdir $(call outside,$(2)))))))

FREE_OBJ := $(call objects,$(BUILD)/free,$(KSRC))
CHK_OBJ  := $(call objects,$(BUILD)/chk,$(KSRC) $(KTEST))
LIB_OBJ  := $(call objects,$(BUILD)/user/obj,$(ULIB))
CRT0     := $(filter %/crt0.o,$(LIB_OBJ))
LIBTINT  := $(BUILD)/user/libtint.a
PROG_OBJ := $(call objects,$(BUILD)/user/obj,$(PROGS))
PROG_ELF := $(addprefix $(BUILD)/user/,$(notdir $(basename $(PROGS))))
KERNELS  := $(BUILD)/tint.elf $(BUILD)/tint-chk.elf

ifneq ($(words $(PROG_ELF)),$(words $(sort $(PROG_ELF))))
$(error two programs have the same name: rename the one in EXTRA)
endif

.PHONY: all
all: $(KERNELS) $(BUILD)/initrd.tar $(BUILD)/disk.img

# A stamp is a file that is rewritten only if its value has changed; whatever
# was made from the old value is then older than the stamp, and made again.
define stamp
$(BUILD)/stamp/$(1): FORCE
	@mkdir -p $$(@D)
	@printf '%s\n' '$(subst ','\'',$(2))' | cmp -s - $$@ || \
	 printf '%s\n' '$(subst ','\'',$(2))' > $$@
endef
.PHONY: FORCE
$(eval $(call stamp,cc,$(CC_ID) $(KFLAGS_chk) $(LTO) $(UFLAGS) $(ASFLAGS)))
$(eval $(call stamp,version,$(VERSION)))
$(eval $(call stamp,kernel,$(KSRC) $(KTEST)))
$(eval $(call stamp,user,$(ULIB) $(PROGS)))
$(eval $(call stamp,initrd,$(PROGS) $(FILES)))

# ------------------------------------------------------------------- kernels

# Rules of one kind of kernel; $(1) is free or chk.
define kernel_rules
$(BUILD)/$(1)/%.o: %.c $(BUILD)/stamp/cc
	$$(call say,CC,$$@)mkdir -p $$(@D); $$(CC) $$(KFLAGS_$(1)) $$(DEFS) -MMD -MP -c $$< -o $$@
$(BUILD)/$(1)/%.o: %.asm $(BUILD)/$(1)/offsets.inc
	$$(call say,NASM,$$@)mkdir -p $$(@D); $$(NASM) -I $(BUILD)/$(1)/ -I ./ $$(ASFLAGS) \
	    -MD $$(@:.o=.d) -MP $$< -o $$@
$(BUILD)/$(1)/kernel/main.o $(BUILD)/$(1)/kernel/nt/ntquery.o: \
    DEFS = -DTINT_VERSION='"$(VERSION)"'
$(BUILD)/$(1)/kernel/main.o $(BUILD)/$(1)/kernel/nt/ntquery.o: $(BUILD)/stamp/version
# offsets.c is only compiled to assembly: its lines  .ascii "->NAME $$123"  say
# where the fields of the structures lie, for the .asm files.
$(BUILD)/$(1)/offsets.inc: $$(wildcard kernel/ke/offsets.c) $(BUILD)/stamp/cc
	$$(call say,GEN,$$@)mkdir -p $$(@D); if [ -f kernel/ke/offsets.c ]; then \
	    $$(CC) $$(KFLAGS_$(1)) -fno-lto -MMD -MP -MT $$@ -MF $(BUILD)/$(1)/offsets.d \
	        -S kernel/ke/offsets.c -o $(BUILD)/$(1)/offsets.s; \
	else : > $(BUILD)/$(1)/offsets.s; fi
	@sed -n 's/^.*->\([A-Za-z_][A-Za-z0-9_]*\) [$$$$#]*\(-*[0-9][0-9]*\).*/%define \1 \2/p' \
	    $(BUILD)/$(1)/offsets.s > $$@
endef
$(eval $(call kernel_rules,free))
$(eval $(call kernel_rules,chk))

$(foreach t,$(call outside,$(KTESTS)),$(eval \
    $(BUILD)/chk/extra/$(basename $(notdir $(t))).o: $(t) $(BUILD)/stamp/cc $(BUILD)/stamp/kernel ; \
    $$(call say,CC,$$@)mkdir -p $$(@D); $$(CC) $$(KFLAGS_chk) -MMD -MP -c $(t) -o $$@))

$(BUILD)/tint.elf: $(FREE_OBJ)
ifneq ($(LTO),)
$(BUILD)/tint.elf: LINK = $(CC) $(KFLAGS_free) $(patsubst --%,-Wl$(comma)--%,$(LDFLAGS))
endif
$(BUILD)/tint-chk.elf: $(CHK_OBJ)
# Calls of these go through verify.c, poolguard.c, faults.c or processors.c of
# tests/kernel first.
VERIFIED := IoCallDriver IoCompleteRequest iop_call_cancel_routine \
            ExAllocatePoolWithTag ExFreePoolWithTag hal_exit hal_send_ipi \
            ki_dispatch_device
$(BUILD)/tint-chk.elf: LDFLAGS += $(VERIFIED:%=--wrap=%)
$(KERNELS): linker.ld $(BUILD)/stamp/kernel
	$(call say,LD,$@)$(LINK) -T linker.ld -o $@ $(filter %.o,$^)

CHEATS := $(basename $(notdir $(wildcard tests/proof/*.c)))
# Kernels that cheat, for `make proof` to catch: the free build and one object
# more, which takes over each function X for which it has __wrap_X.
.SECONDARY: $(CHEATS:%=$(BUILD)/free/tests/proof/%.o)
$(BUILD)/cheats/%.elf: $(BUILD)/free/tests/proof/%.o $(FREE_OBJ) linker.ld
	$(call say,LD,$@)mkdir -p $(@D); $(LD) $(LDFLAGS) $$($(NM) $< | \
	    sed -n 's/.* T __wrap_/--wrap=/p') -T linker.ld -o $@ $(filter %.o,$^)

# -------------------------------------------------- ring 3, initrd and disks

$(BUILD)/user/obj/user/lib/%.o: user/lib/%.c $(BUILD)/stamp/cc
	$(call say,CC,$@)mkdir -p $(@D); $(CC) $(UFLAGS) -MD -MP -c $< -o $@
$(BUILD)/user/obj/user/lib/%.o: user/lib/%.asm $(BUILD)/stamp/cc
	$(call say,NASM,$@)mkdir -p $(@D); $(NASM) -I ./ $(ASFLAGS) -MD $(@:.o=.d) -MP $< -o $@
$(BUILD)/user/obj/%.o: %.c $(BUILD)/stamp/cc
	$(call say,CC,$@)mkdir -p $(@D); $(CC) $(PFLAGS) -MD -MP -c $< -o $@
$(LIBTINT): $(filter-out $(CRT0),$(LIB_OBJ)) $(BUILD)/stamp/user
	$(call say,AR,$@)mkdir -p $(@D); rm -f $@; $(AR) rcsD $@ $(filter %.o,$^)

# One source file is one program, wherever it lies. Each is linked to addresses
# of its own, so that an address, or a breakpoint, means one program. No
# relaxing: the address of a function, which the compiler looks up, does not fit
# into an instruction.
define program_rule
$(BUILD)/user/$(notdir $(basename $(1))): $(call objects,$(BUILD)/user/obj,$(1)) \
        $(CRT0) $(LIBTINT) user/user.ld $(BUILD)/stamp/user
	$$(call say,LD,$$@)$$(LD) $$(LDFLAGS) -no-pie --no-relax -T user/user.ld \
	    --defsym=IMAGE_NUMBER=$(2) -o $$@ \
	    $(CRT0) $$(filter-out $(CRT0),$$(filter %.o,$$^)) $(LIBTINT)
endef
image_numbers :=
$(foreach p,$(PROGS),$(eval image_numbers += $(p)) \
    $(eval $(call program_rule,$(p),$(words $(image_numbers)))))
$(foreach p,$(call outside,$(EXTRA)),$(eval \
    $(BUILD)/user/obj/extra/$(basename $(notdir $(p))).o: $(p) $(BUILD)/stamp/cc $(BUILD)/stamp/user ; \
    $$(call say,CC,$$@)mkdir -p $$(@D); $$(CC) $$(filter-out -Werror,$$(PFLAGS)) -MD -MP -c $(p) -o $$@))

INITRD := $(foreach p,$(PROG_ELF),bin/$(notdir $(p))=$(p)) \
          $(foreach f,$(wildcard README.md) $(FILES),files/$(notdir $(f))=$(f))
$(BUILD)/initrd.tar: $(PROG_ELF) $(wildcard README.md) $(FILES) tools/initrd.py \
        $(BUILD)/stamp/initrd
	$(call say,TAR,$@)$(PYTHON) tools/initrd.py $@ $(INITRD)

# The disks are made once and then belong to the user: no build touches them.
$(BUILD)/disk.img:
	$(call say,DISK,$@)mkdir -p $(@D); truncate -s 64M $@

-include $(patsubst %.o,%.d,$(FREE_OBJ) $(CHK_OBJ) $(LIB_OBJ) $(PROG_OBJ)) \
         $(CHEATS:%=$(BUILD)/free/tests/proof/%.d) \
         $(BUILD)/free/offsets.d $(BUILD)/chk/offsets.d

.PHONY: iso
iso: $(BUILD)/tint.iso
$(BUILD)/tint.iso: $(BUILD)/tint.elf $(BUILD)/initrd.tar boot/grub.cfg tools/iso.py
	$(call say,ISO,$@)$(PYTHON) tools/iso.py $@ --kernel $(BUILD)/tint.elf \
	    --initrd $(BUILD)/initrd.tar -- sh -c nothread

# ---------------------------------------------------------------- run, debug

.PHONY: run debug tour trace proof
trace: all
	@$(PYTHON) tools/timeline
proof: all $(BUILD)/proof-count.so $(CHEATS:%=$(BUILD)/cheats/%.elf)
	@$(PYTHON) tools/proof
$(BUILD)/proof-count.so: tools/proof/count.c tests/bench/plugin.h
	$(call say,CC,$@)mkdir -p $(@D); $(HOSTCC) -std=gnu17 -O2 -Wall -Wextra -shared \
	    -fPIC -fvisibility=hidden -I. -o $@ $<
run: all
	@$(PYTHON) tools/run.py --quit-ok
debug: all compile_commands.json
	@$(PYTHON) tools/debug.py
tour: all
	@$(PYTHON) tools/debug.py --tour $(if $(BATCH),--batch)
compile_commands.json: tools/compdb.py $(BUILD)/stamp/cc $(BUILD)/stamp/kernel \
        $(BUILD)/stamp/user
	$(call say,GEN,$@)$(PYTHON) tools/compdb.py $@ \
	    '$(CC) $(KFLAGS_chk) -DTINT_VERSION="\"\""' $(filter %.c,$(KSRC) $(KTEST)) \
	    -- '$(CC) $(UFLAGS)' $(filter %.c,$(ULIB)) -- '$(CC) $(PFLAGS)' $(PROGS)

# --------------------------------------------------------------------- bench
# The plugin runs inside the host's QEMU, so the host's compiler makes it.

PLUGIN := $(BUILD)/bench/count.so
$(PLUGIN): tests/bench/count.c tests/bench/plugin.h
	$(call say,HOSTCC,$@)mkdir -p $(@D); $(HOSTCC) -std=gnu17 -O2 -Wall -Wextra -Wshadow \
	    -fPIC -shared -fvisibility=hidden -o $@ $<
.PHONY: bench
bench: all $(PLUGIN)
	@$(PYTHON) tools/bench.py

# -------------------------------------------------------------- test and lint

LEVELS    := lint host kernel user qemu labs
TESTS     := $(wildcard $(addprefix tests/,$(or $(LEVEL),$(LEVELS))))
pytest_py := for m in 'pytest, xdist' pytest; do \
                 for p in python3 /usr/bin/python3; do $$p -c "import $$m" \
                     2>/dev/null && { echo $$p; exit; }; done; done
PYTEST     = $(or $(shell $(pytest_py)),$(error pytest is missing: \
                 `make setup` installs it (package python3-pytest)))
# Files of tests side by side, one on each processor, but no more than four.
BESIDE     = $(if $(T),,$(shell $(PYTEST) -c 'import xdist' 2>/dev/null && \
                 echo --maxprocesses 4 --dist loadfile -n `nproc`))

.PHONY: test stress lint rules
ifneq ($(filter-out $(LEVELS),$(LEVEL)),)
$(error LEVEL is one of: $(LEVELS))
endif
# The host's tests need no kernel, all others do.
test: $(if $(filter-out host,$(or $(LEVEL),all)),all $(PLUGIN))
	@$(PYTEST) -m pytest -q $(BESIDE) $(TESTS) $(if $(T),-k '$(T)')
stress: all $(PLUGIN)
	@echo 'stress: the tests with their full numbers of seeds and rounds (STRESS=1)'
	@STRESS=1 $(PYTEST) -m pytest -q $(BESIDE) $(TESTS) $(if $(T),-k '$(T)')
	@for how in $(if $(LEVEL)$(CPUS)$(CHECKED)$(T),,CPUS=2 CPUS=4 CHECKED=1); do \
	     echo "stress: all of tests/qemu with $$how"; \
	     env $$how $(PYTEST) -m pytest -q $(BESIDE) tests/qemu || exit 1; done
lint: $(KERNELS)
	@$(PYTHON) tests/lint/lint.py
rules:
	@$(PYTHON) tests/lint/lint.py --write-rules

# ---------------------------------------------------------------- assignments

# Python reads what was typed, as with ARGS: a folder's name may be anything.
override LAB   := $(value LAB)
override TO    := $(value TO)
override OUT   := $(value OUT)
override ONLY  := $(value ONLY)
export LAB TO OUT ONLY

.PHONY: lab grade
lab:
	@$(PYTHON) tools/lab.py $(N) $${TO:+--to "$$TO"}
grade:
	@$(PYTHON) tools/grade.py $(N) $${LAB:+--answer "$$LAB"} $${OUT:+--out "$$OUT"} \
	    $${ONLY:+--check "$$ONLY"} $(if $(SEED),--seed $(SEED))

# ------------------------------------------------------------- housekeeping

.PHONY: size help clean distclean
# What was built, or what `make clean` left of it.
is_ours = [ ! -d '$(BUILD)' ] || [ -d '$(BUILD)/stamp' ] || \
    [ -z "`ls -A '$(BUILD)' | grep -vx -e disk.img -e files.img -e host \
          -e test-logs -e 'lab[0-9]*'`" ] || \
    { echo '$(BUILD) is no build folder: it stays as it is' >&2; exit 1; }
size:
	@$(PYTHON) tests/lint/lint.py size
help:
	@sed -n 's/^## \{0,1\}//p' Makefile
clean:
	@$(is_ours)
	@if [ -d '$(BUILD)' ]; then find '$(BUILD)' -mindepth 1 -maxdepth 1 \
	    ! -name disk.img ! -name files.img ! -name 'lab[0-9]*' \
	    -exec rm -rf {} +; fi
distclean:
	@$(is_ours)
	@for lab in '$(BUILD)'/lab[0-9]*; do [ ! -e "$$lab" ] || { \
	    echo "$$lab may hold an answer: move it away first" >&2; exit 1; }; done
	@rm -rf '$(BUILD)'

endif
