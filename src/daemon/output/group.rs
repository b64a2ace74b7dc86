//! Events of LAN groups, and members in a list.

use serde_json::{Value, json};

use crate::group::{Event, GroupName, Member};

/// As an object for programs.
pub(super) fn as_json(group: &GroupName, event: &Event) -> Value {
    let with = |name: &str, member: &Member| {
        let mut object = member_as_json(group, member);
        object["event"] = name.into();
        object
    };
    match event {
        Event::Added(member) => with("ADDED", member),
        Event::Removed(member, reason) => {
            let mut object = with("REMOVED", member);
            object["reason"] = reason.as_str().into();
            object
        }
        Event::Changed(member) => with("CHANGED", member),
        Event::Suspect(member) => with("SUSPECT", member),
        Event::Left => json!({ "event": "LEFT", "group": group.as_str() }),
    }
}

/// As a line for people.
pub(super) fn in_words(group: &GroupName, event: &Event) -> Option<String> {
    Some(match event {
        Event::Added(member) => format!("+ {} is in {group}  {}", member.id, member.service),
        Event::Removed(member, reason) => format!("- {} is gone ({reason})  {}", member.id, member.service),
        Event::Changed(Member { id, service, health, .. }) => format!("  {id} is {health}  {service}"),
        Event::Suspect(member) => format!("? {} answers nobody  {}", member.id, member.service),
        Event::Left => return None,
    })
}

/// A member as an object for programs.
pub(in crate::daemon) fn member_as_json(group: &GroupName, member: &Member) -> Value {
    let Member { id, service, health_uri, health } = member;
    json!({
        "group": group.as_str(), "member": id.to_string(), "service": service.as_str(),
        "health_uri": health_uri.to_string(), "health": health.as_str(),
    })
}

/// A member as a line of a list.
pub(in crate::daemon) fn member_in_words(group: &GroupName, member: &Member) -> String {
    let Member { id, service, health, .. } = member;
    format!("{group}  {id}  {health}  {service}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{Health, HealthUri, Reason, Uri};

    #[test]
    fn an_event_names_the_member_and_where_its_service_is() {
        let member = Member {
            id: "91b36669-6225-4398-bc26-c153a1e10e61".parse().unwrap(),
            service: Uri::parse("tcp://10.1.1.1:80").unwrap(),
            health_uri: HealthUri::parse("tcp://10.9.0.1:36215").unwrap(),
            health: Health::Suspect,
        };
        let group = "abc".parse().unwrap();
        let event = Event::Removed(member, Reason::Silent);
        assert_eq!(
            as_json(&group, &event),
            json!({ "event": "REMOVED", "group": "abc", "member": "91b36669-6225-4398-bc26-c153a1e10e61",
                    "service": "tcp://10.1.1.1:80", "health_uri": "tcp://10.9.0.1:36215", "health": "suspect",
                    "reason": "silent" })
        );
        assert_eq!(
            in_words(&group, &event).unwrap(),
            "- 91b36669-6225-4398-bc26-c153a1e10e61 is gone (silent)  tcp://10.1.1.1:80"
        );
    }
}
