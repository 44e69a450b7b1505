/* Counts what a process asks of its disk, its network and its event loops: an LD_PRELOAD library.
 *
 * CALLS_INTO  A folder: the counters of each process are the file of that name, its pid, in it.
 * CALLS_ROOT  What is done to a file below this folder counts for the first part of its path there:
 *             several hubs in one process have counters of their own.
 *
 * Counters are an array of `struct counters`, the first for the process, then one for each name.
 * benchmarks/calls.py reads them. Children of the process are not counted.
 *
 * SQLite tells of statements and commits itself, by the hooks that each of its connections has for
 * this; they would be lost where a program sets its own, or has SQLite linked into it. Kinds of
 * descriptors are looked up at their first use and forgotten in `close`.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS 65536
#define NAMES 16
/* What SQLite writes before each page of its log, and at the log's beginning. */
#define LOG_HEADER_BYTES 32
#define SQLITE "libsqlite3.so.0"
#define SQLITE_TRACE_STMT 1
/* Looked up once; two threads that do it at the same time find the same. */
#define REAL(name)                                  \
    (*({                                            \
        static __typeof__(&name) found;             \
        if (!found) found = real(#name);            \
        found;                                      \
    }))
#define COUNT(counters, what, by) __atomic_fetch_add(&(counters)->what, by, __ATOMIC_RELAXED)

struct counters {
    char name[32];
    int64_t syncs, commits, statements, pages, written_bytes, sends, sent_bytes, polls;
};

enum kind { UNKNOWN, OTHER, NETWORK, LOG, WRITTEN };

static struct counters *all;
static char root[PATH_MAX];
static size_t root_length;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned char kinds[FDS], whose[FDS];

/* Python loads SQLite for itself alone, where RTLD_NEXT does not see it. */
static void *real(const char *name) {
    void *sqlite = strncmp(name, "sqlite3_", 8) ? NULL : dlopen(SQLITE, RTLD_LAZY | RTLD_NOLOAD);
    void *found = dlsym(sqlite ? sqlite : RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

__attribute__((constructor)) static void start(void) {
    const char *into = getenv("CALLS_INTO"), *given = getenv("CALLS_ROOT");
    char path[PATH_MAX];
    if (!into || !given || !realpath(given, root)) return;
    unsetenv("LD_PRELOAD");
    root_length = strlen(root);
    snprintf(path, sizeof path, "%s/%d", into, getpid());
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    size_t size = (1 + NAMES) * sizeof *all;
    if (fd < 0 || ftruncate(fd, size)) abort();
    void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) abort();
    close(fd);
    all = mapped;
}

/* The place of a path's name in `all`, or 0 where it is not below the root. */
static int place_of(const char *path) {
    if (!all || strncmp(path, root, root_length) || path[root_length] != '/') return 0;
    const char *name = path + root_length + 1;
    size_t length = strcspn(name, "/");
    if (length >= sizeof all->name) abort();
    pthread_mutex_lock(&lock);
    int place = 1;
    while (all[place].name[0] && (strncmp(all[place].name, name, length) || all[place].name[length]))
        if (++place > NAMES) abort();
    memcpy(all[place].name, name, length);
    pthread_mutex_unlock(&lock);
    return place;
}

static enum kind kind_of(int fd) {
    if (!all || fd < 0 || fd >= FDS) return OTHER;
    if (kinds[fd]) return kinds[fd];
    struct stat status;
    enum kind kind = OTHER;
    if (!fstat(fd, &status) && S_ISSOCK(status.st_mode)) {
        int domain = 0;
        socklen_t size = sizeof domain;
        getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size);
        if (domain == AF_INET || domain == AF_INET6) kind = NETWORK;
    } else if (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) {
        char link[64], path[PATH_MAX];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, sizeof path - 1);
        path[length < 0 ? 0 : length] = 0;
        whose[fd] = place_of(path);
        if (whose[fd]) kind = length > 4 && !strcmp(path + length - 4, "-wal") ? LOG : WRITTEN;
    }
    return kinds[fd] = kind;
}

int close(int fd) {
    if (fd >= 0 && fd < FDS) kinds[fd] = UNKNOWN;
    return REAL(close)(fd);
}

static ssize_t wrote(int fd, ssize_t bytes) {
    enum kind kind = kind_of(fd);
    if (kind == NETWORK) {
        COUNT(all, sends, 1);
        if (bytes > 0) COUNT(all, sent_bytes, bytes);
    } else if (kind != OTHER && bytes > 0) {
        COUNT(all + whose[fd], written_bytes, bytes);
        if (kind == LOG && bytes > LOG_HEADER_BYTES) COUNT(all + whose[fd], pages, 1);
    }
    return bytes;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    return wrote(fd, REAL(write)(fd, bytes, count));
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    return wrote(fd, REAL(writev)(fd, parts, count));
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    return wrote(fd, REAL(pwrite)(fd, bytes, count, offset));
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    return wrote(fd, REAL(pwrite64)(fd, bytes, count, offset));
}

ssize_t send(int fd, const void *bytes, size_t count, int flags) {
    return wrote(fd, REAL(send)(fd, bytes, count, flags));
}

ssize_t sendto(int fd, const void *bytes, size_t count, int flags, const struct sockaddr *to,
               socklen_t size) {
    return wrote(fd, REAL(sendto)(fd, bytes, count, flags, to, size));
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    return wrote(fd, REAL(sendmsg)(fd, message, flags));
}

static int synced(int fd, int result) {
    if (kind_of(fd) >= LOG) COUNT(all + whose[fd], syncs, 1);
    return result;
}

int fsync(int fd) { return synced(fd, REAL(fsync)(fd)); }

int fdatasync(int fd) { return synced(fd, REAL(fdatasync)(fd)); }

static int polled(int result) {
    if (all) COUNT(all, polls, 1);
    return result;
}

int epoll_wait(int fd, struct epoll_event *events, int most, int timeout) {
    return polled(REAL(epoll_wait)(fd, events, most, timeout));
}

int epoll_pwait(int fd, struct epoll_event *events, int most, int timeout, const sigset_t *mask) {
    return polled(REAL(epoll_pwait)(fd, events, most, timeout, mask));
}

static int on_statement(unsigned kind, void *counters, void *statement, void *text) {
    (void)kind, (void)statement, (void)text;
    COUNT((struct counters *)counters, statements, 1);
    return 0;
}

static int on_commit(void *counters) {
    COUNT((struct counters *)counters, commits, 1);
    return 0;
}

int sqlite3_open_v2(const char *, void **, int, const char *);
const char *sqlite3_db_filename(void *, const char *);
int sqlite3_trace_v2(void *, unsigned, int (*)(unsigned, void *, void *, void *), void *);
void *sqlite3_commit_hook(void *, int (*)(void *), void *);

int sqlite3_open_v2(const char *name, void **connection, int flags, const char *vfs) {
    int failed = REAL(sqlite3_open_v2)(name, connection, flags, vfs);
    if (failed) return failed;
    const char *path = REAL(sqlite3_db_filename)(*connection, "main");
    int place = path ? place_of(path) : 0;
    if (place) {
        REAL(sqlite3_trace_v2)(*connection, SQLITE_TRACE_STMT, on_statement, all + place);
        REAL(sqlite3_commit_hook)(*connection, on_commit, all + place);
    }
    return failed;
}
