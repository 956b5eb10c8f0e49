/* A disk that fails: preloaded into the gateway, it makes syncs of chosen files fail, wait or run out of space.
 *
 * DISK_FAULTS names a folder; a file in it switches a fault on as long as it exists:
 *   sync   fdatasync and fsync return EIO
 *   hold   fdatasync and fsync wait; each one that waits leaves the file `held`
 *   full   pwrite64 returns ENOSPC
 * DISK_FAULTS_SUFFIX is the end of the names of the files that are meant.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_on(const char *fault) {
    const char *folder = getenv("DISK_FAULTS");
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder ? folder : "", fault);
    return folder && access(path, F_OK) == 0;
}

static int is_meant(int fd) {
    const char *suffix = getenv("DISK_FAULTS_SUFFIX");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!suffix || length < (ssize_t)strlen(suffix)) return 0;
    path[length] = 0;
    return strcmp(path + length - strlen(suffix), suffix) == 0;
}

static void tell(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("DISK_FAULTS"), name);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    if (fd >= 0) close(fd);
}

static int sync_with(const char *name, int fd) {
    if (is_meant(fd)) {
        if (is_on("hold")) tell("held");
        while (is_on("hold")) usleep(1000);
        if (is_on("sync")) {
            errno = EIO;
            return -1;
        }
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(fd);
}

int fdatasync(int fd) { return sync_with("fdatasync", fd); }
int fsync(int fd) { return sync_with("fsync", fd); }

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    if (is_on("full") && is_meant(fd)) {
        errno = ENOSPC;
        return -1;
    }
    ssize_t (*real)(int, const void *, size_t, off64_t) =
        (ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
    return real(fd, bytes, count, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) { return pwrite64(fd, bytes, count, at); }
