/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Direct messages from user space to secure partitions: what a device
 * /dev/ffa-ID, where ID is the partition's, can be asked.
 */
#ifndef FFA_MESSAGE_H
#define FFA_MESSAGE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Words of a message; the answer takes their place. */
struct ffa_message {
	__u64 words[14];
};

/* FFA_MSG_SEND_DIRECT_REQ: the first five words travel, the others are zero. */
#define FFA_MESSAGE_REQ		_IOWR('F', 0x40, struct ffa_message)
/* FFA_MSG_SEND_DIRECT_REQ2, to the service that the device stands for. */
#define FFA_MESSAGE_REQ2	_IOWR('F', 0x41, struct ffa_message)

#endif
