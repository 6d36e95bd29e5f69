#include "nfq/connection_marks.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define REQUEST_OCTETS 512
#define MARK_OCTETS    8     /* an attribute of 32 bits */
#define DUMP_OCTETS    32768 /* the kernel fills what the reader offers, up to here */

/* ---- one request, one answer ---- */

static struct nlmsghdr *begin(char text[REQUEST_OCTETS], uint16_t type, uint16_t flags, uint8_t family)
{
    struct nlmsghdr *header = mnl_nlmsg_put_header(text);
    struct nfgenmsg *about;

    header->nlmsg_type = (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type);
    header->nlmsg_flags = NLM_F_REQUEST | flags;
    about = mnl_nlmsg_put_extra_header(header, sizeof *about);
    about->nfgen_family = family;
    about->version = NFNETLINK_V0;
    return header;
}

/* In a request for a change the bits of `mask` are changed, in one for a list they are compared. */
static void put_mark(struct nlmsghdr *header, uint32_t mark, uint32_t mask)
{
    mnl_attr_put_u32(header, CTA_MARK, htonl(mark));
    mnl_attr_put_u32(header, CTA_MARK_MASK, htonl(mask));
}

static void put_tuple(struct nlmsghdr *header, const struct address *source,
                      const struct address *destination)
{
    struct nlattr *tuple = mnl_attr_nest_start(header, CTA_TUPLE_ORIG);
    struct nlattr *part = mnl_attr_nest_start(header, CTA_TUPLE_IP);

    if (address_is_ipv4(source)) {
        mnl_attr_put(header, CTA_IP_V4_SRC, 4, source->octets + 12);
        mnl_attr_put(header, CTA_IP_V4_DST, 4, destination->octets + 12);
    } else {
        mnl_attr_put(header, CTA_IP_V6_SRC, 16, source->octets);
        mnl_attr_put(header, CTA_IP_V6_DST, 16, destination->octets);
    }
    mnl_attr_nest_end(header, part);
    part = mnl_attr_nest_start(header, CTA_TUPLE_PROTO);
    mnl_attr_put_u8(header, CTA_PROTO_NUM, IPPROTO_TCP);
    mnl_attr_put_u16(header, CTA_PROTO_SRC_PORT, htons(source->port));
    mnl_attr_put_u16(header, CTA_PROTO_DST_PORT, htons(destination->port));
    mnl_attr_nest_end(header, part);
    mnl_attr_nest_end(header, tuple);
}

/* 0 or an errno. The answer has come when the request is sent. */
static int request(struct connection_marks *marks, struct nlmsghdr *header)
{
    _Alignas(8) char text[REQUEST_OCTETS + NLMSG_HDRLEN + sizeof(struct nlmsgerr)];
    ssize_t got;

    header->nlmsg_seq = ++marks->sequence;
    if (mnl_socket_sendto(marks->socket, header, header->nlmsg_len) == -1)
        return errno;
    do { /* an answer that was left from an earlier one is passed over */
        got = mnl_socket_recvfrom(marks->socket, text, sizeof text);
        if (got == -1)
            return errno;
    } while (((const struct nlmsghdr *)(const void *)text)->nlmsg_seq != marks->sequence);
    if (mnl_cb_run(text, (size_t)got, marks->sequence, mnl_socket_get_portid(marks->socket), NULL, NULL) ==
        MNL_CB_ERROR)
        return errno;
    return 0;
}

static struct mnl_socket *open_socket(void)
{
    struct mnl_socket *socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (socket != NULL && mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) == -1) {
        mnl_socket_close(socket);
        return NULL;
    }
    return socket;
}

/* ---- one connection ---- */

static int change(struct connection_marks *marks, const struct address *source,
                  const struct address *destination, uint32_t mark)
{
    _Alignas(8) char text[REQUEST_OCTETS];
    const uint8_t family = address_is_ipv4(source) ? AF_INET : AF_INET6;
    struct nlmsghdr *header = begin(text, IPCTNL_MSG_CT_NEW, NLM_F_ACK, family);

    put_tuple(header, source, destination);
    put_mark(header, mark, marks->bit);
    return request(marks, header);
}

enum connection_marks_result connection_marks_set(struct connection_marks *marks,
                                                  const struct address *client, const struct address *server,
                                                  bool on)
{
    int failed = change(marks, client, server, on ? marks->bit : 0);

    if (failed == ENOENT)
        failed = change(marks, server, client, on ? marks->bit : 0);
    errno = failed;
    return failed == 0        ? CONNECTION_MARKS_DONE
           : failed == ENOENT ? CONNECTION_MARKS_UNKNOWN
                              : CONNECTION_MARKS_FAILED;
}

bool connection_marks_open(struct connection_marks *marks, uint32_t bit)
{
    struct address nobody = {.octets = {[10] = 0xff, [11] = 0xff}}; /* no connection has port 0 */
    enum connection_marks_result result;
    int failed;

    *marks = (struct connection_marks){.socket = open_socket(), .bit = bit};
    if (marks->socket == NULL)
        return false;
    result = connection_marks_set(marks, &nobody, &nobody, false);
    if (result != CONNECTION_MARKS_FAILED)
        return true;
    failed = errno;
    connection_marks_close(marks);
    errno = failed;
    return false;
}

void connection_marks_close(struct connection_marks *marks)
{
    if (marks->socket != NULL)
        mnl_socket_close(marks->socket);
    marks->socket = NULL;
}

/* ---- all of them ---- */

static int copy_name(const struct nlattr *attribute, void *context)
{
    struct nlmsghdr *header = context;
    const uint16_t type = mnl_attr_get_type(attribute);

    if (type != CTA_TUPLE_ORIG && type != CTA_ZONE)
        return MNL_CB_OK;
    return mnl_attr_put_check(header, REQUEST_OCTETS - 2 * MARK_OCTETS, attribute->nla_type,
                              mnl_attr_get_payload_len(attribute), mnl_attr_get_payload(attribute))
               ? MNL_CB_OK
               : MNL_CB_ERROR;
}

/* By the name the kernel gives it, whatever is translated, and in its zone. */
static int put_one_off(const struct nlmsghdr *listed, void *context)
{
    struct connection_marks *marks = context;
    const struct nfgenmsg *about = mnl_nlmsg_get_payload(listed);
    _Alignas(8) char text[REQUEST_OCTETS];
    struct nlmsghdr *header = begin(text, IPCTNL_MSG_CT_NEW, NLM_F_ACK, about->nfgen_family);

    if (mnl_attr_parse(listed, sizeof *about, copy_name, header) == MNL_CB_ERROR)
        return MNL_CB_OK;
    put_mark(header, 0, marks->bit);
    (void)request(marks, header); /* it may have ended meanwhile */
    return MNL_CB_OK;
}

static bool dump(struct connection_marks *marks, struct mnl_socket *socket)
{
    _Alignas(8) char text[DUMP_OCTETS];
    struct nlmsghdr *header = begin(text, IPCTNL_MSG_CT_GET, NLM_F_DUMP, AF_UNSPEC);
    int result = MNL_CB_OK;

    put_mark(header, marks->bit, marks->bit); /* only those that bear it */
    if (mnl_socket_sendto(socket, header, header->nlmsg_len) == -1)
        return false;
    while (result == MNL_CB_OK) {
        ssize_t got = mnl_socket_recvfrom(socket, text, sizeof text);

        if (got == -1)
            return false;
        result = mnl_cb_run(text, (size_t)got, 0, mnl_socket_get_portid(socket), put_one_off, marks);
    }
    return result != MNL_CB_ERROR;
}

bool connection_marks_put_all_off(struct connection_marks *marks)
{
    struct mnl_socket *socket = open_socket(); /* the other one is needed meanwhile */
    bool done;

    if (socket == NULL)
        return false;
    done = dump(marks, socket);
    mnl_socket_close(socket);
    return done;
}
