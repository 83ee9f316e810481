#include "selector.h"

#include <string.h>

/* The default first. */
static const mio_selector_ops *const selectors[] = {
#ifdef MIO_HAVE_EPOLL
    &mio_selector_epoll,
#endif
#ifdef MIO_HAVE_KQUEUE
    &mio_selector_kqueue,
#endif
    &mio_selector_poll,
};

#define SELECTORS ((int)(sizeof selectors / sizeof *selectors))

const char *mio_selector_name(int i)
{
    return i >= 0 && i < SELECTORS ? selectors[i]->name : NULL;
}

const mio_selector_ops *mio_selector_find(const char *name)
{
    int i;

    if (name == NULL) return selectors[0];
    for (i = 0; i < SELECTORS; i++) {
        if (strcmp(selectors[i]->name, name) == 0) return selectors[i];
    }
    return NULL;
}
