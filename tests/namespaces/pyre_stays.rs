//! pyre is not robust: whatever it did not expect ends the thread that is its node, and the program lives on, deaf and
//! mute. So after each thing that a hailer does, pyre must still answer.

use serde_json::{Value, json};

use super::between_hailers::KILLED_KNOWN_MAX;
use super::lab::Lab;
use super::peer::{Peer, SOON};
use super::with_pyre::is_possible;

/// A pyre node that is asked again and again whether it still lives.
struct Snake {
    peer: Peer,
    id: Value,
    questions: usize,
}

impl Snake {
    fn new(lab: &Lab, host: u8, name: &str) -> Self {
        let (peer, id) = Peer::pyre(lab, host, name, &["CHAT"]);
        Self { peer, id: id.into(), questions: 0 }
    }

    /// What `asker` whispers arrives, and what pyre whispers back does too: its thread lives and both links work.
    fn answers(&mut self, asker: &mut Peer, asker_id: &Value) {
        self.questions += 1;
        let (question, answer) =
            (format!("question {}", self.questions), format!("answer {}", self.questions));
        asker.say(&format!("/whisper {} {question}", self.id.as_str().expect("an identity")));
        self.peer.expect(SOON, json!({"event": "WHISPER", "peer": asker_id, "content": [question]}));
        self.peer.tell(json!({"do": "whisper", "peer": asker_id, "content": [answer, "", "end"]}));
        asker.expect(SOON, json!({"event": "WHISPER", "peer": self.id, "content": [answer, "", "end"]}));
    }
}

#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn pyre_lives_on_after_each_thing_that_hailer_does() {
    if !is_possible() {
        return;
    }
    let lab = Lab::new(2);
    let mut snake = Snake::new(&lab, 0, "snake");
    let mut ours = Peer::hailer_chat(&lab, 1, "ours", "CHAT");
    let id =
        snake.peer.expect(SOON, json!({"event": "JOIN", "name": "ours", "group": "CHAT"}))["peer"].clone();
    ours.expect(SOON, json!({"event": "JOIN", "peer": snake.id, "group": "CHAT"}));
    snake.answers(&mut ours, &id);
    // pyre fails when a group's count differs from its own, so more than once.
    for group in ["A", "B", "A"] {
        ours.say(&format!("/join {group}"));
        snake.peer.expect(SOON, json!({"event": "JOIN", "peer": id, "group": group}));
        ours.say(&format!("/leave {group}"));
        snake.peer.expect(SOON, json!({"event": "LEAVE", "peer": id, "group": group}));
        snake.answers(&mut ours, &id);
    }
    ours.say("hello, ümläut");
    snake.peer.expect(SOON, json!({"event": "SHOUT", "peer": id, "content": ["hello, ümläut"]}));
    let long = "long ".repeat(20_000);
    ours.say(&long);
    snake.peer.expect(SOON, json!({"event": "SHOUT", "peer": id, "content": [long]}));
    snake.answers(&mut ours, &id);

    // Killed: pyre is not told, and learns of the new life at the old place.
    ours.kill();
    ours.ended(SOON);
    let mut ours = Peer::hailer_chat(&lab, 1, "ours", "CHAT");
    let second_id = snake.peer.expect(SOON, json!({"event": "JOIN", "name": "ours"}))["peer"].clone();
    assert_ne!(second_id, id);
    snake.peer.expect(SOON, json!({"event": "EXIT", "peer": id}));
    ours.expect(SOON, json!({"event": "JOIN", "peer": snake.id}));
    snake.answers(&mut ours, &second_id);

    ours.end_input();
    snake.peer.expect(SOON, json!({"event": "EXIT", "peer": second_id}));
    let mut ours = Peer::hailer_chat(&lab, 1, "ours", "CHAT");
    let third_id = snake.peer.expect(SOON, json!({"event": "JOIN", "name": "ours"}))["peer"].clone();
    ours.expect(SOON, json!({"event": "JOIN", "peer": snake.id}));
    snake.answers(&mut ours, &third_id);
}

#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn a_killed_pyre_is_noticed_within_three_seconds_and_met_again() {
    if !is_possible() {
        return;
    }
    let lab = Lab::new(2);
    let mut ours = Peer::hailer_chat(&lab, 0, "ours", "CHAT");
    let mut earlier: Option<Value> = None;
    for _ in 0..3 {
        let mut snake = Snake::new(&lab, 1, "snake");
        let id = snake.peer.expect(SOON, json!({"event": "JOIN", "name": "ours"}))["peer"].clone();
        ours.expect(SOON, json!({"event": "ENTER", "peer": snake.id}));
        ours.expect(SOON, json!({"event": "JOIN", "peer": snake.id, "group": "CHAT"}));
        if let Some(earlier) = &earlier {
            ours.expect(KILLED_KNOWN_MAX, json!({"event": "EXIT", "peer": earlier}));
        }
        snake.answers(&mut ours, &id);
        snake.peer.kill();
        earlier = Some(snake.id.clone());
    }
    ours.expect(KILLED_KNOWN_MAX, json!({"event": "EXIT", "peer": earlier}));
    ours.has_not_said(json!({"event": "EXIT"}));
}

#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn five_hailers_and_five_pyres_all_meet_and_hear_each_other_once() {
    const OF_EACH: u8 = 5;
    if !is_possible() {
        return;
    }
    let lab = Lab::new(2 * OF_EACH);
    let mut all: Vec<(String, Peer)> = Vec::new();
    for pair in 0..OF_EACH {
        let (snake, ours) = (format!("snake{pair}"), format!("ours{pair}"));
        let snake_peer = Peer::pyre(&lab, 2 * pair, &snake, &["CHAT"]).0;
        let our_peer = Peer::hailer_chat(&lab, 2 * pair + 1, &ours, "CHAT");
        all.extend([(snake, snake_peer), (ours, our_peer)]);
    }
    let names: Vec<String> = all.iter().map(|(name, _)| name.clone()).collect();
    for (own, peer) in &mut all {
        for name in names.iter().filter(|name| *name != own) {
            peer.expect(SOON, json!({"event": "ENTER", "name": name}));
            peer.expect(SOON, json!({"event": "JOIN", "name": name, "group": "CHAT"}));
        }
    }
    for speaker in &names {
        let text = format!("this is {speaker}");
        let (_, peer) = all.iter_mut().find(|(name, _)| name == speaker).expect("it is one of them");
        if speaker.starts_with("snake") {
            peer.tell(json!({"do": "shout", "group": "CHAT", "content": [text]}));
        } else {
            peer.say(&text);
        }
        for (_, peer) in all.iter_mut().filter(|(name, _)| name != speaker) {
            peer.expect(SOON, json!({"event": "SHOUT", "name": speaker, "content": [text]}));
        }
    }
    for (_, peer) in &mut all {
        for event in ["ENTER", "JOIN", "EXIT", "SHOUT"] {
            peer.has_not_said(json!({"event": event}));
        }
    }
}
