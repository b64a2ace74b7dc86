//! Looks for a while which groups there are and who is in them.
//!
//! Announcements name the groups; each that is found is watched until the time is over, so that everybody in the list has
//! answered a check, or a member has vouched for him.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;

use super::announcement::{Announcement, GroupName};
use super::config::Config;
use super::error::JoinError;
use super::event::Member;
use super::membership::{Events, Group};
use super::site::{self, HEARD, Sites};
use crate::net::{Alarm, Net};

/// Groups that are looked at. A network with more has somebody who makes them up.
const GROUPS_MAX: usize = 64;

/// Who is in which group, found in this time. With a name only that group is looked at. Of `config` the port, the
/// interfaces and the addresses that may be dialled count.
///
/// # Errors
/// As [`Group::join`].
pub async fn survey<N: Net>(
    net: &N,
    config: &Config,
    only: Option<&GroupName>,
    time: Duration,
) -> Result<BTreeMap<GroupName, Vec<Member>>, JoinError> {
    let mut end = net.alarm();
    end.set(Some(net.now().after(time)));
    let (heard_tx, mut heard) = mpsc::channel(HEARD);
    let mut watched: BTreeMap<GroupName, (Group, Events)> = BTreeMap::new();
    let watcher =
        |name: &GroupName| Config { name: name.clone(), service: None, check: None, ..config.clone() };
    if let Some(name) = only {
        watched.insert(name.clone(), Group::join(net, watcher(name)).await?);
    }
    let interfaces = site::choose(&net.interfaces().map_err(JoinError::Interfaces)?, &config.interfaces);
    let _ears = Sites::open(net, config, interfaces, &heard_tx)?;
    loop {
        tokio::select! {
            biased;
            () = end.ring() => break,
            Some((datagram, _)) = heard.recv() => {
                let Ok(Announcement { group, .. }) = Announcement::decode(&datagram) else { continue };
                if only.is_none() && watched.len() < GROUPS_MAX && !watched.contains_key(&group) {
                    let membership = Group::join(net, watcher(&group)).await?;
                    watched.insert(group, membership);
                }
            }
        }
    }
    let mut found = BTreeMap::new();
    for (name, (group, _)) in watched {
        found.insert(name, group.members().await.unwrap_or_default());
        group.leave().await;
    }
    Ok(found)
}
