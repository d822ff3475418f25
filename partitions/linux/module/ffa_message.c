// SPDX-License-Identifier: GPL-2.0
/*
 * Lets user space send direct messages to Tantalum's example partitions. The
 * kernel has an FF-A driver for other drivers, and no interface to user space;
 * this is one, a device /dev/ffa-ID for each partition, for root only.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/arm_ffa.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "ffa_message.h"

struct partition {
	struct ffa_device *device;
	struct miscdevice misc;
	/* The device can go while its file is still open. */
	struct mutex lock;
	struct kref users;
	char name[16];
};

static void partition_free(struct kref *users)
{
	kfree(container_of(users, struct partition, users));
}

static int ffa_message_open(struct inode *inode, struct file *file)
{
	/* The misc layer has put its device there, and keeps it while we look. */
	struct partition *partition = container_of(file->private_data,
						   struct partition, misc);

	kref_get(&partition->users);
	file->private_data = partition;

	return 0;
}

static int ffa_message_release(struct inode *inode, struct file *file)
{
	struct partition *partition = file->private_data;

	kref_put(&partition->users, partition_free);

	return 0;
}

static int send_req(struct ffa_device *device, struct ffa_message *message)
{
	struct ffa_send_direct_data data = {
		message->words[0], message->words[1], message->words[2],
		message->words[3], message->words[4],
	};
	int ret = device->ops->msg_ops->sync_send_receive(device, &data);

	if (!ret)
		*message = (struct ffa_message){ .words = {
			data.data0, data.data1, data.data2, data.data3,
			data.data4,
		} };

	return ret;
}

static int send_req2(struct ffa_device *device, struct ffa_message *message)
{
	struct ffa_send_direct_data2 data;
	int ret;

	BUILD_BUG_ON(sizeof(data) != sizeof(*message));
	memcpy(&data, message, sizeof(data));
	ret = device->ops->msg_ops->sync_send_receive2(device, &data);
	if (!ret)
		memcpy(message, &data, sizeof(data));

	return ret;
}

static long ffa_message_ioctl(struct file *file, unsigned int command,
			      unsigned long argument)
{
	struct partition *partition = file->private_data;
	struct ffa_message message;
	int ret = -ENODEV;

	if (command != FFA_MESSAGE_REQ && command != FFA_MESSAGE_REQ2)
		return -ENOTTY;
	if (copy_from_user(&message, (void __user *)argument, sizeof(message)))
		return -EFAULT;

	mutex_lock(&partition->lock);
	/*
	 * The FF-A driver resumes a partition that an interrupt preempted on
	 * whatever CPU it then runs on. A context can be pinned to its own.
	 */
	migrate_disable();
	if (!partition->device)
		ret = -ENODEV;
	else if (command == FFA_MESSAGE_REQ)
		ret = send_req(partition->device, &message);
	else
		ret = send_req2(partition->device, &message);
	migrate_enable();
	mutex_unlock(&partition->lock);
	if (ret)
		return ret;

	if (copy_to_user((void __user *)argument, &message, sizeof(message)))
		return -EFAULT;

	return 0;
}

static const struct file_operations ffa_message_fops = {
	.owner = THIS_MODULE,
	.open = ffa_message_open,
	.release = ffa_message_release,
	.unlocked_ioctl = ffa_message_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static int ffa_message_probe(struct ffa_device *device)
{
	struct partition *partition = kzalloc(sizeof(*partition), GFP_KERNEL);
	int ret;

	if (!partition)
		return -ENOMEM;
	partition->device = device;
	mutex_init(&partition->lock);
	kref_init(&partition->users);
	snprintf(partition->name, sizeof(partition->name), "ffa-%04x",
		 device->vm_id);
	partition->misc = (struct miscdevice){
		.minor = MISC_DYNAMIC_MINOR,
		.name = partition->name,
		.fops = &ffa_message_fops,
		.parent = &device->dev,
		.mode = 0600,
	};
	ret = misc_register(&partition->misc);
	if (ret) {
		kref_put(&partition->users, partition_free);
		return ret;
	}
	ffa_dev_set_drvdata(device, partition);

	return 0;
}

static void ffa_message_remove(struct ffa_device *device)
{
	struct partition *partition = ffa_dev_get_drvdata(device);

	misc_deregister(&partition->misc);
	mutex_lock(&partition->lock);
	partition->device = NULL;
	mutex_unlock(&partition->lock);
	kref_put(&partition->users, partition_free);
}

static const struct ffa_device_id ffa_message_ids[] = {
	/* echo */
	{ UUID_INIT(0x3f2c1b8e, 0x6a0d, 0x4c57,
		    0x9e, 0x41, 0x5d, 0x0a, 0x7c, 0x3b, 0x9f, 0x10) },
	/* forward */
	{ UUID_INIT(0x8c5e4a02, 0x91d7, 0x4e0b,
		    0xb6, 0xa8, 0x2f, 0x1c, 0x6e, 0x7d, 0x3a, 0x21) },
	/* vault */
	{ UUID_INIT(0x96d83ef0, 0xeac1, 0x4b57,
		    0xb3, 0x6d, 0x02, 0x8d, 0x19, 0xe4, 0xf7, 0x50) },
	{ }
};

static struct ffa_driver ffa_message_driver = {
	.name = "ffa-message",
	.probe = ffa_message_probe,
	.remove = ffa_message_remove,
	.id_table = ffa_message_ids,
};

/* The kernel shows user space no more of a partition than its UUID. */
static int tell(struct device *dev, void *unused)
{
	struct ffa_device *device = to_ffa_dev(dev);

	pr_info("partition %04x has properties 0x%03x\n", device->vm_id,
		device->properties);

	return 0;
}

static int __init ffa_message_init(void)
{
	bus_for_each_dev(&ffa_bus_type, NULL, NULL, tell);

	return ffa_register(&ffa_message_driver);
}
module_init(ffa_message_init);

static void __exit ffa_message_exit(void)
{
	ffa_unregister(&ffa_message_driver);
}
module_exit(ffa_message_exit);

MODULE_DESCRIPTION("Direct messages from user space to secure partitions");
MODULE_LICENSE("GPL");
