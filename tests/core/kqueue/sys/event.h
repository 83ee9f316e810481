/* sys/event.h -- as much of kqueue(2) as the core uses, for systems without it.
 *
 * Names and meanings are those of FreeBSD; kqueue.c says how they are kept.
 */
#ifndef KQUEUE_SYS_EVENT_H
#define KQUEUE_SYS_EVENT_H

#include <stdint.h>
#include <time.h>

struct kevent {
    uintptr_t ident;
    short filter;
    unsigned short flags;
    unsigned int fflags;
    intptr_t data;
    void *udata;
};

enum { EVFILT_READ = -1, EVFILT_WRITE = -2, EVFILT_USER = -11 };

enum {
    EV_ADD      = 0x0001,
    EV_DELETE   = 0x0002,
    EV_ENABLE   = 0x0004,
    EV_DISABLE  = 0x0008,
    EV_ONESHOT  = 0x0010,
    EV_CLEAR    = 0x0020,
    EV_RECEIPT  = 0x0040,
    EV_DISPATCH = 0x0080,
    EV_ERROR    = 0x4000,
    EV_EOF      = 0x8000
};

#define NOTE_TRIGGER 0x01000000u

#define EV_SET(event, ident_, filter_, flags_, fflags_, data_, udata_)                  \
    (*(event) = (struct kevent){ (uintptr_t)(ident_), (short)(filter_),                 \
                                 (unsigned short)(flags_), (unsigned int)(fflags_),     \
                                 (intptr_t)(data_), (udata_) })

int kqueue(void);
int kevent(int kq, const struct kevent *changes, int change_count, struct kevent *events,
           int event_count, const struct timespec *timeout);

#endif
