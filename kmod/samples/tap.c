// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors
/*
 * A packet tap: /dev/fbufs-tap writes what a network interface receives and sends into
 * fbufs of a program, many packets an fbuf, each as a record of a pcap file with
 * nanoseconds. A record is written where it is seen, in softirq context; an fbuf is
 * delivered when the next record does not fit, or a while after its first.
 */

#include <linux/capability.h>
#include <linux/fbufs.h>
#include <linux/fs.h>
#include <linux/if_ether.h>
#include <linux/miscdevice.h>
#include <linux/mutex.h>
#include <linux/netdevice.h>
#include <linux/nsproxy.h>
#include <linux/rtnetlink.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <linux/timer.h>
#include <linux/uaccess.h>
#include <net/net_namespace.h>

#include "fbufs_samples.h"

#define BLOCK_TIMEOUT (HZ / 20)

struct record {
	u32 seconds;
	u32 nanoseconds;
	u32 kept;
	u32 length;
};

/**
 * struct tap - one use of the tap
 * @mutex: one starts or stops at a time
 * @source: of the program, or NULL
 * @dev: the interface, with a reference, or NULL; guarded by RTNL
 * @tracker: of the reference
 * @type: what hears its packets
 * @notifier: tells when @dev goes
 * @timer: when the fbuf at hand is delivered
 * @snap: bytes of a packet that are kept
 * @lock: guards what follows; taken in softirqs
 * @block: the fbuf at hand, when it has @data
 * @status: what was done
 */
struct tap {
	struct mutex mutex;	/* see above */
	struct fbufs_source *source;
	struct net_device *dev;
	netdevice_tracker tracker;
	struct packet_type type;
	struct notifier_block notifier;
	struct timer_list timer;
	u32 snap;
	spinlock_t lock;	/* see above */
	struct fbufs_output block;
	struct fbufs_sample_status status;
};

/* Context: under the tap's lock. */
static void block_deliver(struct tap *tap)
{
	if (!tap->block.data)
		return;
	tap->block.cookie = tap->status.messages;
	tap->status.messages += fbufs_source_deliver(tap->source, &tap->block, 1);
	tap->block.data = NULL;
}

/* Room for so many bytes, in this fbuf or the next; or NULL. Context: under the tap's lock. */
static void *block_room(struct tap *tap, u32 bytes)
{
	void *room;

	if (tap->block.data && tap->block.length + bytes > tap->block.bytes)
		block_deliver(tap);
	if (!tap->block.data) {
		if (fbufs_source_alloc(tap->source, &tap->block, 1) != 1) {
			tap->block.data = NULL;
			return NULL;
		}
		mod_timer(&tap->timer, jiffies + BLOCK_TIMEOUT);
	}
	room = tap->block.data + tap->block.length;
	tap->block.length += bytes;
	return room;
}

static void tap_packet(struct tap *tap, const struct sk_buff *skb)
{
	/* Received packets begin behind their link-layer header by now. */
	int head = skb_mac_header(skb) - skb->data;
	u32 length = skb->len - head;
	u32 kept = min(length, tap->snap);
	struct timespec64 now;
	struct record *record;

	ktime_get_real_ts64(&now);
	spin_lock(&tap->lock);
	tap->status.done++;
	record = block_room(tap, sizeof(*record) + kept);
	if (record) {
		*record = (struct record){
			.seconds = now.tv_sec, .nanoseconds = now.tv_nsec,
			.kept = kept, .length = length,
		};
		if (skb_copy_bits(skb, head, record + 1, kept))
			tap->status.errors++;
	} else {
		tap->status.dropped++;
	}
	spin_unlock(&tap->lock);
}

/* Context: bottom halves are off. */
static int tap_receive(struct sk_buff *skb, struct net_device *dev, struct packet_type *type,
		       struct net_device *original)
{
	if (skb_mac_header_was_set(skb))
		tap_packet(container_of(type, struct tap, type), skb);
	consume_skb(skb);
	return 0;
}

static void tap_timeout(struct timer_list *timer)
{
	struct tap *tap = container_of(timer, struct tap, timer);

	spin_lock(&tap->lock);
	block_deliver(tap);
	spin_unlock(&tap->lock);
}

/* Hear no more packets. Context: RTNL. */
static void tap_leave(struct tap *tap)
{
	if (!tap->dev)
		return;
	__dev_remove_pack(&tap->type);
	netdev_put(tap->dev, &tap->tracker);
	tap->dev = NULL;
}

static int tap_device_event(struct notifier_block *notifier, unsigned long event, void *info)
{
	struct tap *tap = container_of(notifier, struct tap, notifier);

	if (event == NETDEV_UNREGISTER && netdev_notifier_info_to_dev(info) == tap->dev)
		tap_leave(tap);
	return NOTIFY_DONE;
}

static int tap_start(struct tap *tap, const struct fbufs_sample_start *config)
{
	const struct fbufs_source_config want = {
		.domain = config->domain, .sender = config->sender,
		.bytes = config->bytes, .count = config->count,
	};
	struct net *net = current->nsproxy->net_ns;
	struct fbufs_source *source;
	struct net_device *dev;

	if (!ns_capable(net->user_ns, CAP_NET_RAW))
		return -EPERM;
	if (tap->source)
		return -EBUSY;
	if (!config->snap || config->snap > config->bytes - sizeof(struct record) ||
	    config->bytes <= sizeof(struct record) ||
	    strnlen(config->name, sizeof(config->name)) == sizeof(config->name))
		return -EINVAL;
	source = fbufs_source_open(&want);
	if (IS_ERR(source))
		return PTR_ERR(source);
	rtnl_lock();
	dev = __dev_get_by_name(net, config->name);
	if (dev) {
		tap->source = source;
		tap->snap = config->snap;
		netdev_hold(dev, &tap->tracker, GFP_KERNEL);
		tap->dev = dev;
		tap->type = (struct packet_type){
			.type = cpu_to_be16(ETH_P_ALL), .dev = dev, .func = tap_receive,
			/* On a loopback interface whatever is sent is received, too. */
			.ignore_outgoing = dev->flags & IFF_LOOPBACK,
		};
		dev_add_pack(&tap->type);
	}
	rtnl_unlock();
	if (!dev) {
		fbufs_source_close(source);
		return -ENODEV;
	}
	return 0;
}

static void tap_stop(struct tap *tap)
{
	if (!tap->source)
		return;
	rtnl_lock();
	tap_leave(tap);
	rtnl_unlock();
	synchronize_net();
	timer_delete_sync(&tap->timer);
	spin_lock_bh(&tap->lock);
	block_deliver(tap);
	spin_unlock_bh(&tap->lock);
	fbufs_source_close(tap->source);
	tap->source = NULL;
}

static int tap_status(struct tap *tap, void __user *to)
{
	struct fbufs_sample_status status;

	spin_lock_bh(&tap->lock);
	status = tap->status;
	spin_unlock_bh(&tap->lock);
	return copy_to_user(to, &status, sizeof(status)) ? -EFAULT : 0;
}

static long tap_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct tap *tap = file->private_data;
	struct fbufs_sample_start config;
	long err = -ENOTTY;

	if (cmd == FBUFS_SAMPLE_START &&
	    copy_from_user(&config, (void __user *)arg, sizeof(config)))
		return -EFAULT;
	mutex_lock(&tap->mutex);
	if (cmd == FBUFS_SAMPLE_START)
		err = tap_start(tap, &config);
	else if (cmd == FBUFS_SAMPLE_STATUS)
		err = tap_status(tap, (void __user *)arg);
	else if (cmd == FBUFS_SAMPLE_STOP)
		err = 0;
	if (cmd == FBUFS_SAMPLE_STOP)
		tap_stop(tap);
	mutex_unlock(&tap->mutex);
	return err;
}

static int tap_open(struct inode *inode, struct file *file)
{
	struct tap *tap = kzalloc(sizeof(*tap), GFP_KERNEL_ACCOUNT);
	int err;

	if (!tap)
		return -ENOMEM;
	mutex_init(&tap->mutex);
	spin_lock_init(&tap->lock);
	timer_setup(&tap->timer, tap_timeout, 0);
	tap->notifier.notifier_call = tap_device_event;
	err = register_netdevice_notifier(&tap->notifier);
	if (err) {
		kfree(tap);
		return err;
	}
	file->private_data = tap;
	return nonseekable_open(inode, file);
}

static int tap_release(struct inode *inode, struct file *file)
{
	struct tap *tap = file->private_data;

	tap_stop(tap);
	unregister_netdevice_notifier(&tap->notifier);
	kfree(tap);
	return 0;
}

static const struct file_operations tap_fops = {
	.owner = THIS_MODULE,
	.open = tap_open,
	.release = tap_release,
	.unlocked_ioctl = tap_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice tap_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "fbufs-tap",
	.fops = &tap_fops,
	.mode = 0660,
};

module_misc_device(tap_device);

MODULE_DESCRIPTION("Sample: writes the packets of an interface into fbufs");
MODULE_AUTHOR("The fbufs authors");
MODULE_LICENSE("GPL");
fbufs_import_namespace();
