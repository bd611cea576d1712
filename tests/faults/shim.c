/* Faults at the border between a program and the C library: preloaded, it counts the file operations of one process below one
 * folder and, at the one it was told, kills the process, tears a write, or answers with an error. It also moves the wall clock.
 *
 *   FAULT_OWNER  pid of the process that is meant; its children are left alone
 *   FAULT_ROOT   only paths that start with this, and descriptors opened from such paths
 *   FAULT_AT     number of the operation, from 1; 0 counts only
 *   FAULT_MODE   kill (before it) | after | torn (half of a write, then kill) | once (fails) | from (it and all later ones fail)
 *   FAULT_ERRNO  for once and from
 *   FAULT_KINDS  letters: r reads, w what changes files, s syncs
 *   FAULT_LOG    one line an operation: NUMBER NAME PATH
 *   FAULT_CLOCK  seconds added to the wall clock, and the monotonic clock left alone
 *   FAULT_JUMP   seconds of that come only after so many milliseconds of the process's life
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static pid_t owner;
static const char *root;
static size_t root_length;
static long at, error_number;
static char mode[8], kinds[8] = "ws";
static int log_fd = -1;
static long counter;
static long long clock_shift, jump_after_ms;
static struct timespec born;

__attribute__((constructor)) static void set_up(void) {
    const char *text = getenv("FAULT_OWNER");
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &born);
    if ((text = getenv("FAULT_CLOCK"))) clock_shift = atoll(text);
    if ((text = getenv("FAULT_JUMP"))) jump_after_ms = atoll(text);
    text = getenv("FAULT_OWNER");
    root = getenv("FAULT_ROOT");
    if (!text || !root || atol(text) != getpid()) return;
    root_length = strlen(root);
    if ((text = getenv("FAULT_AT"))) at = atol(text);
    if ((text = getenv("FAULT_MODE"))) snprintf(mode, sizeof mode, "%s", text);
    if ((text = getenv("FAULT_ERRNO"))) error_number = atol(text);
    if ((text = getenv("FAULT_KINDS"))) snprintf(kinds, sizeof kinds, "%s", text);
    if ((text = getenv("FAULT_LOG"))) {
        log_fd = syscall(SYS_openat, AT_FDCWD, text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (log_fd >= 0) log_fd = fcntl(log_fd, F_DUPFD_CLOEXEC, 900);
    }
    owner = getpid();
}

static int is_below(const char *path) {
    return path && (path[0] != '/' || strncmp(path, root, root_length) == 0);
}

static const char *path_of(int fd, char *buffer) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, buffer, PATH_MAX - 1);
    if (length < 0) return NULL;
    buffer[length] = 0;
    return buffer[0] == '/' ? buffer : NULL;
}

static void die(void) {
    syscall(SYS_kill, owner, SIGKILL);
    for (;;) pause();
}

enum { PASS, FAIL, AFTER, TORN };

/* Decide about one operation. FAIL: errno is set. */
static int meet(char kind, const char *name, const char *path) {
    if (!owner || getpid() != owner || !strchr(kinds, kind) || !is_below(path)) return PASS;
    long number = __atomic_add_fetch(&counter, 1, __ATOMIC_SEQ_CST);
    if (log_fd >= 0) {
        char line[PATH_MAX + 64];
        int length = snprintf(line, sizeof line, "%ld %s %s\n", number, name, path);
        int kept = errno;
        syscall(SYS_write, log_fd, line, length);
        errno = kept;
    }
    if (!at || number < at) return PASS;
    if (mode[0] == 'f' || (mode[0] == 'o' && number == at)) {
        errno = (int)error_number;
        return FAIL;
    }
    if (number != at) return PASS;
    if (mode[0] == 'k') die();
    if (mode[0] == 'a') return AFTER;
    if (mode[0] == 't') return TORN;
    return PASS;
}

static int meet_fd(char kind, const char *name, int fd) {
    char buffer[PATH_MAX];
    if (!owner || getpid() != owner || !strchr(kinds, kind)) return PASS;
    const char *path = path_of(fd, buffer);
    return path ? meet(kind, name, path) : PASS;
}

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

/* `count` is halved when the operation is torn; operations without a length are then done whole. */
#define AROUND(type, verdict, call)                                    \
    do {                                                               \
        int met = (verdict);                                           \
        if (met == FAIL) return -1;                                    \
        type answer = (call);                                          \
        if (met == AFTER || met == TORN) die();                        \
        return answer;                                                 \
    } while (0)

static char open_kind(int flags) { return (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) ? 'w' : 'r'; }

#define OPEN(name)                                                                     \
    int name(const char *path, int flags, ...) {                                       \
        va_list rest; va_start(rest, flags); mode_t bits = va_arg(rest, mode_t); va_end(rest); \
        AROUND(int, meet(open_kind(flags), "open", path), REAL(name)(path, flags, bits)); \
    }
OPEN(open)
OPEN(open64)
#define OPENAT(name)                                                                   \
    int name(int dir, const char *path, int flags, ...) {                              \
        va_list rest; va_start(rest, flags); mode_t bits = va_arg(rest, mode_t); va_end(rest); \
        AROUND(int, dir == AT_FDCWD ? meet(open_kind(flags), "open", path) : meet_fd(open_kind(flags), "open", dir), \
               REAL(name)(dir, path, flags, bits));                                    \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void *bytes, size_t count) {
    int met = meet_fd('w', "write", fd);
    if (met == FAIL) return -1;
    ssize_t answer = syscall(SYS_write, fd, bytes, met == TORN ? (count + 1) / 2 : count);
    if (met != PASS) die();
    return answer;
}
#define PWRITE(name)                                                                   \
    ssize_t name(int fd, const void *bytes, size_t count, off_t offset) {              \
        int met = meet_fd('w', "pwrite", fd);                                          \
        if (met == FAIL) return -1;                                                    \
        ssize_t answer = syscall(SYS_pwrite64, fd, bytes, met == TORN ? (count + 1) / 2 : count, offset); \
        if (met != PASS) die();                                                        \
        return answer;                                                                 \
    }
PWRITE(pwrite)
PWRITE(pwrite64)
ssize_t writev(int fd, const struct iovec *parts, int count) { AROUND(ssize_t, meet_fd('w', "writev", fd), REAL(writev)(fd, parts, count)); }
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t count, unsigned flags) {
    int met = meet_fd('w', "copy_file_range", out);
    if (met == FAIL) return -1;
    ssize_t answer = REAL(copy_file_range)(in, from, out, to, met == TORN ? (count > 4096 ? 4096 : (count + 1) / 2) : count, flags);
    if (met != PASS) die();
    return answer;
}
#define SENDFILE(name)                                                                 \
    ssize_t name(int out, int in, off_t *offset, size_t count) {                       \
        AROUND(ssize_t, meet_fd('w', "sendfile", out), syscall(SYS_sendfile, out, in, offset, count)); \
    }
SENDFILE(sendfile)
SENDFILE(sendfile64)

ssize_t read(int fd, void *bytes, size_t count) { AROUND(ssize_t, meet_fd('r', "read", fd), syscall(SYS_read, fd, bytes, count)); }
ssize_t pread(int fd, void *bytes, size_t count, off_t offset) { AROUND(ssize_t, meet_fd('r', "pread", fd), syscall(SYS_pread64, fd, bytes, count, offset)); }
ssize_t pread64(int fd, void *bytes, size_t count, off_t offset) { AROUND(ssize_t, meet_fd('r', "pread", fd), syscall(SYS_pread64, fd, bytes, count, offset)); }

int rename(const char *from, const char *to) { AROUND(int, meet('w', "rename", to), REAL(rename)(from, to)); }
int renameat(int a, const char *from, int b, const char *to) { AROUND(int, meet('w', "rename", to), REAL(renameat)(a, from, b, to)); }
int link(const char *from, const char *to) { AROUND(int, meet('w', "link", to), REAL(link)(from, to)); }
int symlink(const char *target, const char *path) { AROUND(int, meet('w', "symlink", path), REAL(symlink)(target, path)); }
int unlink(const char *path) { AROUND(int, meet('w', "unlink", path), REAL(unlink)(path)); }
int unlinkat(int dir, const char *path, int flags) { AROUND(int, meet('w', "unlink", path), REAL(unlinkat)(dir, path, flags)); }
int rmdir(const char *path) { AROUND(int, meet('w', "rmdir", path), REAL(rmdir)(path)); }
int mkdir(const char *path, mode_t bits) { AROUND(int, meet('w', "mkdir", path), REAL(mkdir)(path, bits)); }
int chmod(const char *path, mode_t bits) { AROUND(int, meet('w', "chmod", path), REAL(chmod)(path, bits)); }
int fchmod(int fd, mode_t bits) { AROUND(int, meet_fd('w', "chmod", fd), REAL(fchmod)(fd, bits)); }
int fchmodat(int dir, const char *path, mode_t bits, int flags) { AROUND(int, meet('w', "chmod", path), REAL(fchmodat)(dir, path, bits, flags)); }
#pragma GCC diagnostic ignored "-Wnonnull-compare"
int utimensat(int dir, const char *path, const struct timespec times[2], int flags) {
    AROUND(int, path ? meet('w', "utimens", path) : meet_fd('w', "utimens", dir), REAL(utimensat)(dir, path, times, flags));
}
int futimens(int fd, const struct timespec times[2]) { AROUND(int, meet_fd('w', "utimens", fd), REAL(futimens)(fd, times)); }
int ftruncate(int fd, off_t length) { AROUND(int, meet_fd('w', "truncate", fd), syscall(SYS_ftruncate, fd, length)); }
int ftruncate64(int fd, off_t length) { AROUND(int, meet_fd('w', "truncate", fd), syscall(SYS_ftruncate, fd, length)); }
int fallocate(int fd, int how, off_t offset, off_t length) { AROUND(int, meet_fd('w', "fallocate", fd), syscall(SYS_fallocate, fd, how, offset, length)); }

int fsync(int fd) { AROUND(int, meet_fd('s', "fsync", fd), REAL(fsync)(fd)); }
int fdatasync(int fd) { AROUND(int, meet_fd('s', "fdatasync", fd), REAL(fdatasync)(fd)); }
int syncfs(int fd) { AROUND(int, meet_fd('s', "syncfs", fd), REAL(syncfs)(fd)); }

/* The wall clock. Python asks clock_gettime; SQLite and the C library ask gettimeofday and time. */
static long long shift(void) {
    struct timespec now;
    if (!clock_shift || !jump_after_ms) return clock_shift;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    long long lived = (now.tv_sec - born.tv_sec) * 1000LL + (now.tv_nsec - born.tv_nsec) / 1000000;
    return lived >= jump_after_ms ? clock_shift : 0;
}
int clock_gettime(clockid_t which, struct timespec *found) {
    int answer = (int)syscall(SYS_clock_gettime, which, found);
    if (answer == 0 && clock_shift && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) found->tv_sec += shift();
    return answer;
}
int gettimeofday(struct timeval *found, void *zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    found->tv_sec = now.tv_sec;
    found->tv_usec = now.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *found) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (found) *found = now.tv_sec;
    return now.tv_sec;
}
