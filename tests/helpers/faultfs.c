/* A disk that can be read back and can be full: an LD_PRELOAD library for tests of the store.
 *
 * It stands between a process and libc for everything that changes files below FAULTFS_DIR.
 *
 * FAULTFS_LOG      Every change and every sync is appended here, with its bytes, in the order in
 *                  which it happened; `faultfs_mark` puts the program's own marks between them.
 *                  tests/storage/powerloss.py reads it.
 * FAULTFS_CONTROL  A file of three int64 that the test may change at any time: the free bytes of
 *                  the disk (negative: no limit), its size, and how often ENOSPC was answered.
 *                  Growing files take from the free bytes, shrinking and deleting ones give back.
 *                  tests/helpers/faults.py reads and writes it.
 *
 * One mutex makes the order of the log the order of the disk. Only growth costs space: real file
 * systems, too, overwrite in a full disk. Not seen: dup, mmap (SQLite's -shm is written so) and
 * sendfile; test_power_loss.py compares the replayed log with the real directory.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS 65536
#define REAL(name) ((__typeof__(&name))real(#name))

struct control {
    int64_t free_bytes, total_bytes, refused;
};

struct __attribute__((packed)) header {
    char op;
    int32_t handle;
    int64_t number;
    uint32_t first_bytes, second_bytes;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_length;
static int log_fd = -1;
static struct control *control;
/* Which opened file a descriptor is; 0 where it is none of ours. */
static int32_t handles[FDS];
static int32_t last_handle;

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

__attribute__((constructor)) static void start(void) {
    const char *dir = getenv("FAULTFS_DIR"), *log = getenv("FAULTFS_LOG"),
               *control_path = getenv("FAULTFS_CONTROL");
    if (!dir || !realpath(dir, root)) return;
    root_length = strlen(root);
    if (log) log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (!control_path) return;
    int fd = syscall(SYS_openat, AT_FDCWD, control_path, O_RDWR | O_CLOEXEC);
    if (fd < 0) abort();
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (control == MAP_FAILED) abort();
    syscall(SYS_close, fd);
}

/* The path below the root, or NULL; "" is the root itself. */
static const char *below(int dirfd, const char *path, char *buffer) {
    if (!root_length) return NULL;
    if (path[0] == '/') {
        snprintf(buffer, PATH_MAX, "%s", path);
    } else {
        char base[PATH_MAX] = "", link[64];
        if (dirfd == AT_FDCWD) {
            if (!getcwd(base, sizeof base)) return NULL;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
            ssize_t n = readlink(link, base, sizeof base - 1);
            if (n < 0) return NULL;
            base[n] = 0;
        }
        size_t n = strlen(base);
        snprintf(buffer, PATH_MAX, "%s", base);
        snprintf(buffer + n, PATH_MAX - n, "/%s", path);
    }
    if (strncmp(buffer, root, root_length)) return NULL;
    if (buffer[root_length] == 0) return buffer + root_length;
    return buffer[root_length] == '/' ? buffer + root_length + 1 : NULL;
}

static int32_t handle_of(int fd) { return fd >= 0 && fd < FDS ? handles[fd] : 0; }

static void record(char op, int32_t handle, int64_t number, const void *first, size_t first_bytes,
                   const void *second, size_t second_bytes) {
    if (log_fd < 0) return;
    int saved = errno;
    struct header head = {op, handle, number, first_bytes, second_bytes};
    struct iovec parts[3] = {{&head, sizeof head},
                             {(void *)first, first_bytes},
                             {(void *)second, second_bytes}};
    ssize_t all = sizeof head + first_bytes + second_bytes;
    if (syscall(SYS_writev, log_fd, parts, 3) != all) abort();
    errno = saved;
}

static void record_path(char op, const char *path) { record(op, 0, 0, path, strlen(path), "", 0); }

static void record_paths(char op, const char *from, const char *to) {
    record(op, 0, 0, from, strlen(from), to, strlen(to));
}

static void give_back(int64_t bytes) {
    if (control && control->free_bytes >= 0 && bytes > 0) control->free_bytes += bytes;
}

/* Take space for `bytes` at `offset`; how many of them have room, or -1 with ENOSPC. */
static ssize_t take(int fd, int64_t offset, size_t bytes) {
    struct stat status;
    if (!control || control->free_bytes < 0 || !bytes || fstat(fd, &status)) return bytes;
    int64_t growth = offset + (int64_t)bytes - status.st_size;
    if (growth <= 0) return bytes;
    int64_t missing = growth - control->free_bytes;
    if (missing >= (int64_t)bytes) {
        control->refused++;
        errno = ENOSPC;
        return -1;
    }
    control->free_bytes -= missing > 0 ? control->free_bytes : growth;
    return missing > 0 ? (ssize_t)(bytes - missing) : (ssize_t)bytes;
}

static int64_t size_of(const char *path) {
    struct stat status;
    return lstat(path, &status) || !S_ISREG(status.st_mode) || status.st_nlink > 1 ? 0 : status.st_size;
}

static int open_at(int dirfd, const char *path, int flags, mode_t mode) {
    char buffer[PATH_MAX];
    const char *name = below(dirfd, path, buffer);
    if (!name) {
        int fd = REAL(openat)(dirfd, path, flags, mode);
        if (fd >= 0 && fd < FDS) handles[fd] = 0;
        return fd;
    }
    pthread_mutex_lock(&lock);
    struct stat status;
    int known = lstat(buffer, &status) == 0;
    int64_t cut = known && (flags & O_TRUNC) ? size_of(buffer) : 0;
    int fd = REAL(openat)(dirfd, path, flags, mode);
    if (fd >= 0 && fd < FDS) {
        give_back(cut);
        handles[fd] = ++last_handle;
        record('O', last_handle, !known, name, strlen(name), "", 0);
        if (known && (flags & O_TRUNC)) record('T', last_handle, 0, "", 0, "", 0);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE_OF(flags)                       \
    mode_t mode = 0;                         \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { \
        va_list rest;                        \
        va_start(rest, flags);               \
        mode = va_arg(rest, mode_t);         \
        va_end(rest);                        \
    }

int open(const char *path, int flags, ...) {
    MODE_OF(flags)
    return open_at(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE_OF(flags)
    return open_at(AT_FDCWD, path, flags, mode);
}

int openat(int dirfd, const char *path, int flags, ...) {
    MODE_OF(flags)
    return open_at(dirfd, path, flags, mode);
}

int openat64(int dirfd, const char *path, int flags, ...) {
    MODE_OF(flags)
    return open_at(dirfd, path, flags, mode);
}

int close(int fd) {
    if (fd >= 0 && fd < FDS) handles[fd] = 0;
    return REAL(close)(fd);
}

/* Write at an offset, or with a negative one where the descriptor stands. */
static ssize_t write_at(int fd, const void *bytes, size_t count, off_t offset) {
    pthread_mutex_lock(&lock);
    int stands = offset < 0;
    struct stat status;
    if (stands) {
        int append = fcntl(fd, F_GETFL) & O_APPEND;
        offset = append && !fstat(fd, &status) ? status.st_size : lseek(fd, 0, SEEK_CUR);
    }
    ssize_t done = take(fd, offset, count);
    if (done >= 0) {
        done = stands ? REAL(write)(fd, bytes, done) : REAL(pwrite)(fd, bytes, done, offset);
        if (done > 0) record('W', handle_of(fd), offset, bytes, done, "", 0);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    return handle_of(fd) ? write_at(fd, bytes, count, -1) : REAL(write)(fd, bytes, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    return handle_of(fd) ? write_at(fd, bytes, count, offset) : REAL(pwrite)(fd, bytes, count, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    return pwrite(fd, bytes, count, offset);
}

/* The parts go one by one; a short count is the caller's to continue, as after any write. */
static ssize_t write_parts(int fd, const struct iovec *parts, int count, off_t offset) {
    ssize_t all = 0;
    for (int i = 0; i < count; i++) {
        ssize_t done = write_at(fd, parts[i].iov_base, parts[i].iov_len, offset < 0 ? -1 : offset + all);
        if (done < 0) return all ? all : -1;
        all += done;
        if ((size_t)done < parts[i].iov_len) break;
    }
    return all;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    return handle_of(fd) ? write_parts(fd, parts, count, -1) : REAL(writev)(fd, parts, count);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    return handle_of(fd) ? write_parts(fd, parts, count, offset) : REAL(pwritev)(fd, parts, count, offset);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    return pwritev(fd, parts, count, offset);
}

int ftruncate(int fd, off_t size) {
    if (!handle_of(fd)) return REAL(ftruncate)(fd, size);
    pthread_mutex_lock(&lock);
    struct stat before;
    int known = fstat(fd, &before) == 0;
    int failed = REAL(ftruncate)(fd, size);
    if (!failed) {
        if (known) give_back(before.st_size - size);
        record('T', handle_of(fd), size, "", 0, "", 0);
    }
    pthread_mutex_unlock(&lock);
    return failed;
}

int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

int posix_fallocate(int fd, off_t offset, off_t length) {
    if (!handle_of(fd)) return REAL(posix_fallocate)(fd, offset, length);
    pthread_mutex_lock(&lock);
    struct stat before;
    int failed = fstat(fd, &before) ? errno : 0;
    int64_t growth = offset + length - before.st_size;
    if (!failed && control && control->free_bytes >= 0 && growth > control->free_bytes) {
        control->refused++;
        failed = ENOSPC;
    }
    if (!failed && !(failed = REAL(posix_fallocate)(fd, offset, length)) && growth > 0) {
        if (control && control->free_bytes >= 0) control->free_bytes -= growth;
        record('T', handle_of(fd), offset + length, "", 0, "", 0);
    }
    pthread_mutex_unlock(&lock);
    return failed;
}

int posix_fallocate64(int fd, off64_t offset, off64_t length) {
    return posix_fallocate(fd, offset, length);
}

/* With a log nothing needs to reach the real disk: the log is the disk. */
static int sync_file(int fd, int (*really)(int)) {
    if (!handle_of(fd) || log_fd < 0) return really(fd);
    pthread_mutex_lock(&lock);
    record('S', handle_of(fd), 0, "", 0, "", 0);
    pthread_mutex_unlock(&lock);
    return 0;
}

int fsync(int fd) { return sync_file(fd, REAL(fsync)); }

int fdatasync(int fd) { return sync_file(fd, REAL(fdatasync)); }

int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    char from_buffer[PATH_MAX], to_buffer[PATH_MAX];
    const char *from_name = below(from_dir, from, from_buffer), *to_name = below(to_dir, to, to_buffer);
    if (!from_name && !to_name) return REAL(renameat)(from_dir, from, to_dir, to);
    pthread_mutex_lock(&lock);
    int64_t replaced = to_name ? size_of(to_buffer) : 0;
    int failed = REAL(renameat)(from_dir, from, to_dir, to);
    if (!failed) {
        give_back(replaced);
        record_paths('R', from_name ? from_name : from, to_name ? to_name : to);
    }
    pthread_mutex_unlock(&lock);
    return failed;
}

int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

int unlinkat(int dirfd, const char *path, int flags) {
    char buffer[PATH_MAX];
    const char *name = below(dirfd, path, buffer);
    if (!name) return REAL(unlinkat)(dirfd, path, flags);
    pthread_mutex_lock(&lock);
    int64_t size = size_of(buffer);
    int failed = REAL(unlinkat)(dirfd, path, flags);
    if (!failed) {
        give_back(size);
        record_path('U', name);
    }
    pthread_mutex_unlock(&lock);
    return failed;
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    char from_buffer[PATH_MAX], to_buffer[PATH_MAX];
    const char *from_name = below(from_dir, from, from_buffer), *to_name = below(to_dir, to, to_buffer);
    if (!to_name) return REAL(linkat)(from_dir, from, to_dir, to, flags);
    pthread_mutex_lock(&lock);
    int failed = REAL(linkat)(from_dir, from, to_dir, to, flags);
    if (!failed) record_paths('L', from_name ? from_name : from, to_name);
    pthread_mutex_unlock(&lock);
    return failed;
}

int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int mkdirat(int dirfd, const char *path, mode_t mode) {
    char buffer[PATH_MAX];
    const char *name = below(dirfd, path, buffer);
    if (!name) return REAL(mkdirat)(dirfd, path, mode);
    pthread_mutex_lock(&lock);
    int failed = REAL(mkdirat)(dirfd, path, mode);
    if (!failed) record_path('M', name);
    pthread_mutex_unlock(&lock);
    return failed;
}

int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

static void tell_space(struct statvfs *space) {
    if (!control || control->free_bytes < 0) return;
    space->f_bfree = space->f_bavail = control->free_bytes / space->f_frsize;
    space->f_blocks = control->total_bytes / space->f_frsize;
}

int statvfs(const char *path, struct statvfs *space) {
    char buffer[PATH_MAX];
    int failed = REAL(statvfs)(path, space);
    if (!failed && below(AT_FDCWD, path, buffer)) tell_space(space);
    return failed;
}

int fstatvfs(int fd, struct statvfs *space) {
    int failed = REAL(fstatvfs)(fd, space);
    if (!failed && handle_of(fd)) tell_space(space);
    return failed;
}

/* The 64-bit forms have the same layout on every 64-bit system. */
int statvfs64(const char *path, struct statvfs64 *space) { return statvfs(path, (struct statvfs *)space); }

int fstatvfs64(int fd, struct statvfs64 *space) { return fstatvfs(fd, (struct statvfs *)space); }

/* Put the program's own word between the changes: it was said when all before it had happened. */
void faultfs_mark(const char *bytes, size_t count) {
    pthread_mutex_lock(&lock);
    record('A', 0, 0, bytes, count, "", 0);
    pthread_mutex_unlock(&lock);
}
