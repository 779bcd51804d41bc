//! The events notice listens to, one file each. Readers get every record at every replica, for the sockets there; consumers share
//! the records, for the store.

mod device_token;
mod direct_message;
mod follow;
mod message_change;
mod message_receipt;
mod notice;
mod notice_like;
mod post;
mod resign;
mod room_message;

use std::sync::Arc;

use sosohappy_bus::consume::{spawn_consumer, spawn_reader};
use sosohappy_bus::relay::RelayHandle;
use sosohappy_bus::{Bus, Start};
use sosohappy_events::types::{
    AccountResigned, DeviceTokenSet, DirectMessageSent, FollowChanged, MessageChanged, MessageReceipt, NoticeRaised,
    PostChanged, PostLiked, RoomMessageSent,
};

use crate::delivery::Delivery;
use crate::shows::Shows;

pub fn spawn(bus: &Arc<dyn Bus>, delivery: &Delivery, relay: RelayHandle) {
    let context = &delivery.context;
    let shows = Shows::new(delivery);
    spawn_reader::<PostLiked>(context, bus.clone(), Start::Latest, notice_like::Show(shows.clone()));
    spawn_reader::<NoticeRaised>(context, bus.clone(), Start::Latest, notice::Show(shows.clone()));
    spawn_reader::<FollowChanged>(context, bus.clone(), Start::Latest, follow::Show(shows));
    spawn_reader::<PostChanged>(context, bus.clone(), Start::Latest, post::Note(delivery.clone()));

    spawn_consumer::<PostLiked>(context, bus.clone(), notice_like::Keep(delivery.clone()));
    spawn_consumer::<NoticeRaised>(context, bus.clone(), notice::Keep(delivery.clone()));
    spawn_consumer::<FollowChanged>(context, bus.clone(), follow::Keep(delivery.clone()));
    spawn_consumer::<PostChanged>(context, bus.clone(), post::Withdraw(delivery.clone()));
    spawn_consumer::<DirectMessageSent>(context, bus.clone(), direct_message::Push(delivery.clone()));
    spawn_consumer::<MessageChanged>(context, bus.clone(), message_change::Withdraw(delivery.clone()));
    spawn_consumer::<RoomMessageSent>(context, bus.clone(), room_message::Push(delivery.clone()));
    spawn_consumer::<MessageReceipt>(context, bus.clone(), message_receipt::Settle(delivery.clone()));
    spawn_consumer::<DeviceTokenSet>(
        context,
        bus.clone(),
        device_token::Change {
            settings: delivery.settings.clone(),
            store: delivery.store.clone(),
        },
    );
    spawn_consumer::<AccountResigned>(
        context,
        bus.clone(),
        resign::Erase {
            delivery: delivery.clone(),
            relay,
        },
    );
}
