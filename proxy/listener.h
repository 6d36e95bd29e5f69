/* listener - the transparent listening sockets, one per family and worker.
 * Sockets passed by systemd or a parent are used as they are and shared by all workers: a successor that inherits
 * the same ones loses no queued connection, while taking a socket out of a SO_REUSEPORT group resets those queued.
 * Owns:    its descriptors. Bounds: LISTENER_MAX_INHERITED passed sockets. Threads: the main thread opens; each
 *          worker accepts from its own.
 * Source:  Linux Documentation/networking/tproxy.rst; ip(7), ipv6(7), socket(7). */
#ifndef SMTPWITNESS_PROXY_LISTENER_H
#define SMTPWITNESS_PROXY_LISTENER_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/settings.h"
#include "core/base/address.h"
#include "core/base/attributes.h"

#define LISTENER_BACKLOG       4096 /* the kernel cuts it to net.core.somaxconn */
#define LISTENER_MAX_INHERITED 16

/* A transparent listener of the family on every address; -1 and one line in `error`. */
int listener_open(bool ipv6, uint16_t port, struct settings_error *error) MUST_CHECK;

/* Prepares a passed socket; false and one line in `error` when it is no transparent TCP listener. */
bool listener_adopt(int fd, struct settings_error *error) MUST_CHECK;

enum listener_result {
    LISTENER_OK = 0,
    LISTENER_EMPTY,    /* nobody waits */
    LISTENER_AGAIN,    /* that one went away before we came; try the next */
    LISTENER_SHORTAGE, /* EMFILE, ENFILE, ENOBUFS, ENOMEM: pause */
    LISTENER_BROKEN,
};

/* Takes one connection: its descriptor, who called and whom they wanted to reach. */
enum listener_result listener_accept(int fd, int *client_fd, struct address *client,
                                     struct address *server) MUST_CHECK;

/* The port a listener is bound to; 0 = unknown. */
uint16_t listener_port(int fd);

#endif
