//! What steps do to a machine besides switching it on and off: its clock, its processor, its address.

use std::sync::Arc;

use super::processor::Processor;
use super::{Appointment, World};
use crate::fabric::random::Stream;
use crate::scenario::{Delay, Drift, Move, NodeIndex};
use crate::trace::What;

impl World {
    /// Each time draws from the node's own stream. The containers of a Docker host have its clock.
    pub(super) fn set_clock(&mut self, index: NodeIndex, drift: Drift) {
        let state = &mut self.nodes[index.0 as usize];
        let drift = state.clock.drift(drift);
        let mut fabric = self.fabric.lock();
        fabric.set_drift(state.host, drift);
        let containers = self.scenario.nodes.iter().zip(&self.nodes);
        for (_, state) in containers.filter(|(node, _)| node.kind.docker_host() == Some(index)) {
            fabric.set_drift(state.host, drift);
        }
    }

    /// From now on the node's program, of this life and of those to come, waits so long for the processor.
    pub(super) fn slow_down(&mut self, index: NodeIndex, delay: &Delay) {
        let token = self.appointments.len() as u64;
        let (fabric, state) = (self.fabric.clone(), &mut self.nodes[index.0 as usize]);
        if state.processor.is_none() {
            self.appointments.push(Appointment::Turn(index));
            let stream =
                Stream::new(self.seed, &format!("{}/processor", self.scenario.nodes[index.0 as usize].name));
            let processor = Processor::new(fabric, token, stream);
            if let Some(life) = &state.life {
                life.tasks.take_turns(Arc::new(processor.clone()));
            }
            state.processor = Some(processor);
        }
        if let Some(processor) = &state.processor {
            processor.set_delay(delay.clone());
        }
    }

    /// A program that runs is cut off from everybody by that, until it notices.
    pub(super) fn move_to(&mut self, index: NodeIndex, new: Move) {
        let state = &mut self.nodes[index.0 as usize];
        let mut fabric = self.fabric.lock();
        fabric.set_address(state.host, new.interface, new.address);
        if state.life.is_some() {
            state.is_moved = true;
            self.log.record(fabric.now(), index, What::Cut(format!("new address {}", new.address)));
        }
        drop(fabric);
        // The engine connects the container anew, and publishes its ports anew.
        if let Some(publication) = state.publication.take() {
            publication.withdraw();
            self.publish(index);
        }
    }

    /// It has had its time.
    pub(super) fn notice(&mut self, index: NodeIndex) {
        let state = &mut self.nodes[index.0 as usize];
        if state.life.is_some() && std::mem::take(&mut state.is_moved) {
            self.log.record(self.fabric.lock().now(), index, What::Mended("address".to_owned()));
        }
    }
}
