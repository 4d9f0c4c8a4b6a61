// peer.c - the same work on Linux: the init of a guest that only measures.
//
// Marks its windows as TINT's `bench` does (user/include/measure.h), so that
// the same plugin counts both. The words behind `--` on the kernel's command
// line say what to do:
//
//   write:HOW:DEPTH:N   4 KiB writes to random blocks of /dev/nvme0n1; HOW is
//                       call (a system call for each), batch (one for all that
//                       are due), best (batch, with registered buffers and
//                       file, and completions taken only by this task)
//   null:N              getppid
//   packet:N            MSG_RING from one ring to another, both reaped
//   round:N             two threads and two futexes, there and back
//   signal:N            a signal to oneself, its handler, and back
//   set:PATH=VALUE      writes VALUE to a file of sysfs
//   symbols:0           prints where the kernel's functions lie
//
// Leaves QEMU through isa-debug-exit, as TINT does.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MARK(id) \
    __asm__ volatile(".byte 0x0F,0x1F,0x84,0," #id ",0x52,0x4B,0x4D" \
                     : : : "memory")

#define DISK       "/dev/nvme0n1"
#define BLOCK      4096u
#define SPAN       (64u << 20)
#define MOST_DEPTH 1024u
#define WARM       256
#define EXIT_PORT  0xF4
#define EXIT_GOOD  0x10
#define EXIT_BAD   0x11

static bool good = true;

static void fail(const char *what)
{
    printf("peer: %s: %s\n", what, strerror(errno));
    good = false;
}

// ---- Windows ----------------------------------------------------------------

static struct timespec opened, closed;

#define OPEN()  (clock_gettime(CLOCK_MONOTONIC, &opened), ({ MARK(2); }))
#define CLOSE() ({ MARK(3); clock_gettime(CLOCK_MONOTONIC, &closed); })

static void report(const char *name, long n)
{
    printf("TEST %s n=%ld sec=%.6f\n", name, n,
           (double)(closed.tv_sec - opened.tv_sec) +
               1e-9 * (double)(closed.tv_nsec - opened.tv_nsec));
    fflush(stdout);
}

// ---- Writes -----------------------------------------------------------------

struct flow {
    struct io_uring ring;
    int file;
    uint8_t *buffers;
    uint32_t free[MOST_DEPTH], free_count;
    bool each, fixed;
};

static uint64_t random_state = 88172645463325252u;

static uint64_t random_block(void)
{
    uint64_t x = random_state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    random_state = x;
    return (x >> 32) * (SPAN / BLOCK) >> 32;
}

static bool open_flow(struct flow *flow, const char *how, uint32_t depth)
{
    struct io_uring_params parameters = { 0 };
    *flow = (struct flow){ .each = strcmp(how, "call") == 0,
                           .fixed = strcmp(how, "best") == 0 };
    if (flow->fixed)
        parameters.flags = IORING_SETUP_SINGLE_ISSUER |
                           IORING_SETUP_DEFER_TASKRUN;
    errno = -io_uring_queue_init_params(depth, &flow->ring, &parameters);
    if (errno)
        return fail("io_uring"), false;
    flow->file = open(DISK, O_RDWR | O_DIRECT);
    if (flow->file < 0)
        return fail(DISK), false;
    flow->buffers = aligned_alloc(BLOCK, (size_t)depth * BLOCK);
    memset(flow->buffers, 0x5A, (size_t)depth * BLOCK);
    for (uint32_t i = 0; i < depth; i++)
        flow->free[flow->free_count++] = i;
    struct iovec all = { flow->buffers, (size_t)depth * BLOCK };
    if (flow->fixed) {
        errno = -io_uring_register_buffers(&flow->ring, &all, 1);
        if (!errno)
            errno = -io_uring_register_files(&flow->ring, &flow->file, 1);
        if (errno)
            return fail("registering"), false;
    }
    return true;
}

static void send_one(struct flow *flow)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&flow->ring);
    uint32_t i = flow->free[--flow->free_count];
    uint8_t *buffer = flow->buffers + (size_t)i * BLOCK;
    uint64_t offset = random_block() * BLOCK;
    if (flow->fixed) {
        io_uring_prep_write_fixed(entry, 0, buffer, BLOCK, offset, 0);
        entry->flags |= IOSQE_FIXED_FILE;
    } else {
        io_uring_prep_write(entry, flow->file, buffer, BLOCK, offset);
    }
    entry->user_data = i;
    if (flow->each)
        io_uring_submit(&flow->ring);
}

// Sends what it may, waits for an answer, takes all; returns how many.
static long turn(struct flow *flow, long most)
{
    struct io_uring_cqe *answer;
    unsigned head;
    long taken = 0;
    for (; most > 0 && flow->free_count; most--)
        send_one(flow);
    int status = io_uring_submit_and_wait(&flow->ring, 1);
    if (status < 0 && status != -EINTR) {
        errno = -status;
        fail("submit");
        return INT32_MAX;
    }
    io_uring_for_each_cqe(&flow->ring, head, answer) {
        if (answer->res != (int)BLOCK) {
            errno = -answer->res;
            fail("a write");
        }
        flow->free[flow->free_count++] = (uint32_t)answer->user_data;
        taken++;
    }
    io_uring_cq_advance(&flow->ring, (unsigned)taken);
    return taken;
}

static void do_writes(const char *name, const char *how, uint32_t depth,
                      long n)
{
    static struct flow flow;
    long taken = 0, warm = WARM + 2 * (long)depth;
    if (!open_flow(&flow, how, depth))
        return;
    while (taken < warm && good)
        taken += turn(&flow, INT32_MAX);
    taken = 0;
    OPEN();
    while (taken < n && good)
        taken += turn(&flow, INT32_MAX);
    CLOSE();
    report(name, taken);
    while (flow.free_count < depth && good)
        turn(&flow, 0);
    io_uring_queue_exit(&flow.ring);
    close(flow.file);
    free(flow.buffers);
}

// ---- Calls, packets, threads, signals ---------------------------------------

static void do_null(const char *name, long n)
{
    for (long i = -WARM; i < n; i++) {
        if (i == 0)
            OPEN();
        syscall(SYS_getppid);
    }
    CLOSE();
    report(name, n);
}

static void take(struct io_uring *ring)
{
    struct io_uring_cqe *answer;
    if (io_uring_wait_cqe(ring, &answer) || answer->res < 0)
        fail("a packet");
    io_uring_cqe_seen(ring, answer);
}

static void do_packets(const char *name, long n)
{
    static struct io_uring here, there;
    if (io_uring_queue_init(8, &here, 0) || io_uring_queue_init(8, &there, 0))
        return fail("io_uring");
    for (long i = -WARM; i < n && good; i++) {
        if (i == 0)
            OPEN();
        io_uring_prep_msg_ring(io_uring_get_sqe(&here), there.ring_fd, 0, 1,
                               0);
        io_uring_submit_and_wait(&here, 1);
        take(&here);
        take(&there);
    }
    CLOSE();
    report(name, n);
    io_uring_queue_exit(&here);
    io_uring_queue_exit(&there);
}

static uint32_t ping, pong;

static void wait_for(uint32_t *word)
{
    while (!__atomic_exchange_n(word, 0, __ATOMIC_ACQ_REL))
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

static void wake(uint32_t *word)
{
    __atomic_store_n(word, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *answer_rounds(void *count)
{
    for (long i = 0; i < (long)count; i++) {
        wait_for(&ping);
        wake(&pong);
    }
    return NULL;
}

static void do_rounds(const char *name, long n)
{
    pthread_t other;
    pthread_create(&other, NULL, answer_rounds, (void *)(n + WARM));
    for (long i = -WARM; i < n; i++) {
        if (i == 0)
            OPEN();
        wake(&ping);
        wait_for(&pong);
    }
    CLOSE();
    pthread_join(other, NULL);
    report(name, n);
}

static volatile long signals;

static void on_signal(int number)
{
    (void)number;
    signals++;
}

static void do_signals(const char *name, long n)
{
    long self = syscall(SYS_gettid);
    signal(SIGUSR1, on_signal);
    for (long i = -WARM; i < n; i++) {
        if (i == 0)
            OPEN();
        syscall(SYS_tgkill, getpid(), self, SIGUSR1);
    }
    CLOSE();
    if (signals != n + WARM)
        fail("signals were lost");
    report(name, n);
}

// ---- The guest --------------------------------------------------------------

static void set_file(char *path)
{
    char *value = strchr(path, '=');
    *value++ = 0;
    int file = open(path, O_WRONLY);
    if (file < 0 || write(file, value, strlen(value)) < 0)
        fail(path);
    close(file);
}

static void print_symbols(void)
{
    char line[256];
    mkdir("/proc", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    FILE *symbols = fopen("/proc/kallsyms", "r");
    if (!symbols)
        return fail("/proc/kallsyms");
    while (fgets(line, sizeof(line), symbols))
        if (strchr("tTwW", line[17]))
            printf("SYMBOL %s", line);
    fclose(symbols);
    fflush(stdout);
}

static void make_ready(void)
{
    struct rlimit none = { RLIM_INFINITY, RLIM_INFINITY };
    mkdir("/dev", 0755);
    mkdir("/sys", 0755);
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    setrlimit(RLIMIT_MEMLOCK, &none);
    for (int i = 0; i < 200 && access(DISK, F_OK); i++)
        usleep(50000);
    usleep(300000);    // late parts of the kernel's start settle
}

static void do_word(char *word)
{
    char name[128], how[16];
    unsigned depth;
    long n;
    snprintf(name, sizeof(name), "%s", word);
    if (strncmp(word, "set:", 4) == 0)
        set_file(word + 4);
    else if (sscanf(word, "write:%15[^:]:%u:%ld", how, &depth, &n) == 3 &&
             depth <= MOST_DEPTH)
        do_writes(name, how, depth, n);
    else if (strcmp(word, "symbols:0") == 0)
        print_symbols();
    else if (sscanf(word, "null:%ld", &n) == 1)
        do_null(name, n);
    else if (sscanf(word, "packet:%ld", &n) == 1)
        do_packets(name, n);
    else if (sscanf(word, "round:%ld", &n) == 1)
        do_rounds(name, n);
    else if (sscanf(word, "signal:%ld", &n) == 1)
        do_signals(name, n);
    else
        fail(word);
}

int main(int argc, char **argv)
{
    MARK(1);
    make_ready();
    for (int i = 1; i < argc; i++)
        if (strchr(argv[i], ':'))    // the others are the kernel's own
            do_word(argv[i]);
    fflush(stdout);
    usleep(200000);    // what was printed has left the serial port
    ioperm(EXIT_PORT, 4, 1);
    outl(good ? EXIT_GOOD : EXIT_BAD, EXIT_PORT);
    for (;;)
        pause();
}
