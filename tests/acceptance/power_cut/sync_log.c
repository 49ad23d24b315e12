/* Preloaded into the processes of a test: keeps, beside the real files, what would survive a power cut.
 *
 * When fsync or fdatasync of a file below SYNC_LOG_ROOT has returned, its content is copied to SYNC_LOG_KEPT/files/KEY;
 * for a directory its names are written to SYNC_LOG_KEPT/names/KEY, one "KEY NAME" a line. KEY is inode and time of birth,
 * as inode numbers are used again. Whatever was only written, created, renamed or removed is in neither. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sendfile.h>
#include <unistd.h>

static _Atomic int serial;

static int key_of(int at, const char *name, char *key, size_t size, int *directory) {
    struct statx about;
    int flags = AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH);
    if (statx(at, name, flags, STATX_INO | STATX_BTIME | STATX_TYPE, &about)) return -1;
    snprintf(key, size, "%llu-%lld-%u", (unsigned long long)about.stx_ino, (long long)about.stx_btime.tv_sec,
             about.stx_btime.tv_nsec);
    *directory = S_ISDIR(about.stx_mode);
    return S_ISDIR(about.stx_mode) || S_ISREG(about.stx_mode) ? 0 : -1;
}

/* For the test's own process. */
int sync_log_key(const char *path, char *key, size_t size) {
    int directory;
    return key_of(AT_FDCWD, path, key, size, &directory);
}

static int copy_file(int from, const char *to) {
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", from);
    int in = open(self, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ssize_t count = -1;
    if (in >= 0 && out >= 0)
        do count = sendfile(out, in, NULL, 1 << 30);
        while (count > 0);
    if (in >= 0) close(in);
    if (out >= 0) close(out);
    return count ? -1 : 0;
}

static int list_names(const char *path, const char *to) {
    FILE *out = fopen(to, "we");
    DIR *names = opendir(path);
    if (out && names) {
        struct dirent *entry;
        char key[96];
        int directory;
        while ((entry = readdir(names)))
            if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..") &&
                !key_of(dirfd(names), entry->d_name, key, sizeof key, &directory))
                fprintf(out, "%s %s\n", key, entry->d_name);
    }
    if (names) closedir(names);
    if (out) fclose(out);
    return out && names ? 0 : -1;
}

static void keep(int descriptor) {
    const char *root = getenv("SYNC_LOG_ROOT"), *kept = getenv("SYNC_LOG_KEPT");
    char self[64], path[4096], key[96], partial[4300], whole[4300];
    int directory, before = errno;
    if (!root || !kept) return;
    snprintf(self, sizeof self, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(self, path, sizeof path - 1);
    if (length > 0) {
        path[length] = 0;
        size_t deep = strlen(root);
        if (!strncmp(path, root, deep) && (!path[deep] || path[deep] == '/') &&
            !key_of(descriptor, "", key, sizeof key, &directory)) {
            snprintf(whole, sizeof whole, "%s/%s/%s", kept, directory ? "names" : "files", key);
            snprintf(partial, sizeof partial, "%s/partial/%d-%d", kept, getpid(), atomic_fetch_add(&serial, 1));
            if (!(directory ? list_names(path, partial) : copy_file(descriptor, partial))) rename(partial, whole);
        }
    }
    errno = before;
}

static int synced(const char *name, int descriptor) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int result = real(descriptor);
    if (!result) keep(descriptor);
    return result;
}

int fsync(int descriptor) { return synced("fsync", descriptor); }
int fdatasync(int descriptor) { return synced("fdatasync", descriptor); }
