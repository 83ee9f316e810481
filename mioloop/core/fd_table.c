#include "fd_table.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/stat.h>

/* Devices that epoll refuses because they have no readiness. */
static const char *const always_ready[] = {
    "/dev/null", "/dev/zero", "/dev/full", "/dev/urandom",
};

void mio_fd_table_init(mio_fd_table *table)
{
    table->entries = NULL;
    table->capacity = 0;
    table->serial = 0;
}

void mio_fd_table_free(mio_fd_table *table)
{
    free(table->entries);
    mio_fd_table_init(table);
}

mio_fd_entry *mio_fd_table_get(const mio_fd_table *table, int fd)
{
    if (fd < 0 || fd >= table->capacity || !table->entries[fd].known) return NULL;
    return &table->entries[fd];
}

void mio_fd_table_forget(mio_fd_table *table, int fd)
{
    mio_fd_entry *entry = mio_fd_table_get(table, fd);

    if (entry != NULL) entry->known = false;
}

static int check_pollable(const struct stat *file)
{
    struct stat device;
    size_t i;

    if (S_ISREG(file->st_mode) || S_ISDIR(file->st_mode) || S_ISBLK(file->st_mode)) return -EPERM;
    if (!S_ISCHR(file->st_mode)) return 0;
    for (i = 0; i < sizeof always_ready / sizeof *always_ready; i++) {
        if (stat(always_ready[i], &device) == 0 && device.st_rdev == file->st_rdev) return -EPERM;
    }
    return 0;
}

/* Sets *file, and *out to the entry of fd; *out is NULL if fd is unknown. Forgets
 * an entry if its number is closed or has another file now. */
static int identify(mio_fd_table *table, int fd, struct stat *file, mio_fd_entry **out)
{
    mio_fd_entry *entry = mio_fd_table_get(table, fd);
    int err = 0;

    if (fstat(fd, file) < 0) err = -errno;
    if (entry != NULL
        && (err < 0 || entry->device != file->st_dev || entry->inode != file->st_ino)) {
        entry->known = false;
        entry = NULL;
    }
    *out = entry;
    return err;
}

static int grow(mio_fd_table *table, int fd)
{
    mio_fd_entry *entries;
    int capacity = table->capacity > 0 ? table->capacity : 64;
    int i;

    if (fd < table->capacity) return 0;
    while (capacity <= fd) capacity = capacity > INT_MAX / 2 ? INT_MAX : capacity * 2;
    entries = realloc(table->entries, (size_t)capacity * sizeof *entries);
    if (entries == NULL) return -ENOMEM;
    for (i = table->capacity; i < capacity; i++) entries[i] = (mio_fd_entry){ .known = false };
    table->entries = entries;
    table->capacity = capacity;
    return 0;
}

static void arm(mio_fd_table *table, mio_fd_entry *entry, mio_token token,
                uint32_t interest, uint32_t opts)
{
    entry->known = true;
    entry->armed = true;
    entry->token = token;
    entry->interest = (uint8_t)interest;
    entry->opts = (uint8_t)opts;
    entry->silent = 0;
    entry->ended = 0;
    entry->serial = ++table->serial;
}

int mio_fd_table_add(mio_fd_table *table, int fd, mio_token token,
                     uint32_t interest, uint32_t opts)
{
    struct stat file;
    mio_fd_entry *entry;
    int err;

    err = identify(table, fd, &file, &entry);
    if (err == 0) err = check_pollable(&file);
    if (err == 0 && entry != NULL) err = -EEXIST;
    if (err == 0) err = grow(table, fd);
    if (err < 0) return err;
    entry = &table->entries[fd];
    entry->device = file.st_dev;
    entry->inode = file.st_ino;
    arm(table, entry, token, interest, opts);
    return 0;
}

int mio_fd_table_modify(mio_fd_table *table, int fd, mio_token token,
                        uint32_t interest, uint32_t opts)
{
    struct stat file;
    mio_fd_entry *entry;
    int err;

    err = identify(table, fd, &file, &entry);
    if (err == 0 && entry == NULL) err = -ENOENT;
    if (err == 0) arm(table, entry, token, interest, opts);
    return err;
}

int mio_fd_table_remove(mio_fd_table *table, int fd)
{
    struct stat file;
    mio_fd_entry *entry;
    int err;

    err = identify(table, fd, &file, &entry);
    if (err == 0 && entry == NULL) err = -ENOENT;
    if (err == 0) entry->known = false;
    return err;
}
