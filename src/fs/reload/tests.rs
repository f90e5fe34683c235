//! Tests of the keeper with a planner and a stage that only take notes.

use std::sync::mpsc;

use parking_lot::Mutex;

use super::*;
use crate::fs::edition::Watched;
use crate::synth::generation::Generation;
use crate::synth::segments::SegmentMap;

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(10);

/// What the stage is told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    /// The names and the first bytes of identities.
    Published(Vec<(String, u8)>),
    Refused(String),
    Answered(Answer),
}

struct Notes {
    told: Mutex<Sender<Told>>,
    shown: Mutex<Vec<(String, u8)>>,
}

impl Stage for Notes {
    fn prefix(&self) -> String {
        String::new()
    }

    fn differs(&self, edition: &Edition, _: bool) -> bool {
        *self.shown.lock() != images(edition)
    }

    fn publish(&self, edition: Edition, retry: bool) -> Option<Work> {
        if !self.differs(&edition, retry) {
            return None;
        }
        let images = images(&edition);
        self.shown.lock().clone_from(&images);
        self.tell(Told::Published(images));
        Some(Work {
            new: edition.generation.pending,
            obsolete: Vec::new(),
        })
    }

    fn complete(&self, _: &PendingImage, _: Result<&[Arc<Image>], String>) -> bool {
        true
    }

    fn refuse(&self, refusal: Refusal) {
        self.tell(Told::Refused(refusal.to_string()));
    }

    fn watching(&self, _: Watching) {}

    fn answer(&self, answer: Answer) {
        self.tell(Told::Answered(answer));
    }
}

impl Notes {
    fn tell(&self, told: Told) {
        drop(self.told.lock().send(told));
    }
}

fn images(edition: &Edition) -> Vec<(String, u8)> {
    let ready = edition.generation.images.iter();
    ready
        .map(|image| (image.name.clone(), image.identity[0]))
        .collect()
}

fn image(name: &str, identity: u8) -> Arc<Image> {
    let source = Arc::new(SegmentMap::new());
    Arc::new(Image::new(name.to_owned(), source, 0, [identity; 32]))
}

/// What a config comes to: an image with this identity, an image that takes work, or a mistake.
#[derive(Debug, Clone)]
enum State {
    Ready(u8),
    Pending(u8, Result<(), ()>),
    /// An image that takes a second and a half.
    Slow(u8),
    Mistake(&'static str),
}

struct Script(Arc<Mutex<State>>, Arc<Mutex<u32>>);

impl Planner for Script {
    fn plan(&mut self, _: &Changes) -> Result<Edition, Refusal> {
        let mut generation = Generation::default();
        match self.0.lock().clone() {
            State::Ready(identity) => generation.images.push(image("disk.img", identity)),
            State::Pending(identity, outcome) => {
                let names = vec!["boot.ova".to_owned()];
                let work = move |_: &_| match outcome {
                    Ok(()) => Ok(vec![image("boot.ova", identity)]),
                    Err(()) => Err(crate::synth::pending::PrepareError::Image("no".to_owned())),
                };
                let pending = PendingImage::new(names, 0, [identity; 32], None, Box::new(work));
                generation.pending.push(Arc::new(pending));
            }
            State::Slow(identity) => {
                let begun = Arc::clone(&self.1);
                let work = move |_: &_| {
                    let mut begun = begun.lock();
                    *begun = u32::saturating_add(*begun, 1);
                    drop(begun);
                    thread::sleep(Duration::from_millis(1500));
                    Ok(vec![image("boot.ova", identity)])
                };
                let names = vec!["boot.ova".to_owned()];
                let pending = PendingImage::new(names, 0, [identity; 32], None, Box::new(work));
                generation.pending.push(Arc::new(pending));
            }
            State::Mistake(message) => {
                return Err(Refusal {
                    errors: vec![message.to_owned()],
                    hint: None,
                });
            }
        }
        Ok(Edition {
            is_edited: false,
            ..Edition::of(generation)
        })
    }

    fn watched(&self) -> Watched {
        Watched::default()
    }
}

/// A keeper at work.
struct Scene {
    state: Arc<Mutex<State>>,
    /// How often the slow image was begun.
    begun: Arc<Mutex<u32>>,
    sender: Sender<Event>,
    told: Receiver<Told>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Scene {
    /// Begins with the image of identity 1.
    fn new(wait: bool) -> Self {
        let state = Arc::new(Mutex::new(State::Ready(1)));
        let begun = Arc::new(Mutex::new(0));
        let (tell, told) = mpsc::channel();
        let stage = Notes {
            told: Mutex::new(tell),
            shown: Mutex::new(vec![("disk.img".to_owned(), 1)]),
        };
        let (sender, events) = mpsc::channel();
        let keeper = Keeper::new(
            Box::new(Script(Arc::clone(&state), Arc::clone(&begun))),
            Arc::new(stage),
            Arc::new(Watches::new()),
            (sender.clone(), events),
            wait,
        );
        let thread = thread::spawn(move || {
            keeper.run(Some(Work::default()), Box::new(|_| {}));
        });
        Self {
            state,
            begun,
            sender,
            told,
            thread: Some(thread),
        }
    }

    fn becomes(&self, state: State) {
        *self.state.lock() = state;
        self.sender.send(Event::Touched).unwrap();
    }

    fn reload(&self, ticket: u64) {
        let wish = Wish::Reload(ticket);
        self.sender.send(Event::Wish(wish)).unwrap();
    }

    fn next(&self) -> Told {
        self.told.recv_timeout(SOON).unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        drop(self.sender.send(Event::Stop));
        drop(self.thread.take().map(thread::JoinHandle::join));
    }
}

fn published(name: &str, identity: u8) -> Told {
    Told::Published(vec![(name.to_owned(), identity)])
}

#[test]
fn what_changed_is_shown() {
    let scene = Scene::new(false);
    scene.becomes(State::Ready(2));
    assert_eq!(scene.next(), published("disk.img", 2));
    scene.becomes(State::Ready(2));
    scene.becomes(State::Ready(3));
    assert_eq!(scene.next(), published("disk.img", 3));
}

#[test]
fn a_mistake_that_is_soon_gone_is_not_worth_a_word() {
    let scene = Scene::new(false);
    scene.becomes(State::Mistake("half a config"));
    thread::sleep(Duration::from_millis(500));
    scene.becomes(State::Ready(2));
    assert_eq!(scene.next(), published("disk.img", 2));
}

#[test]
fn a_mistake_that_stays_is_told_once_and_heals() {
    let scene = Scene::new(false);
    scene.becomes(State::Mistake("no disk"));
    assert_eq!(scene.next(), Told::Refused("no disk".to_owned()));
    // It is tried again by itself, and the same mistake is not told again.
    assert_eq!(
        scene.told.recv_timeout(Duration::from_secs(3)),
        Err(RecvTimeoutError::Timeout)
    );
    *scene.state.lock() = State::Ready(2);
    assert_eq!(scene.next(), published("disk.img", 2));
}

#[test]
fn whoever_asks_is_answered_at_once() {
    let scene = Scene::new(false);
    let answer = |ticket, is_new, errors: &[&str]| {
        Told::Answered(Answer {
            ticket,
            is_new,
            errors: errors.iter().map(ToString::to_string).collect(),
            hint: None,
        })
    };
    scene.reload(1);
    assert_eq!(scene.next(), answer(1, false, &[]));
    *scene.state.lock() = State::Ready(2);
    scene.reload(2);
    assert_eq!(scene.next(), published("disk.img", 2));
    assert_eq!(scene.next(), answer(2, true, &[]));
    *scene.state.lock() = State::Mistake("no disk");
    scene.reload(3);
    assert_eq!(scene.next(), Told::Refused("no disk".to_owned()));
    assert_eq!(scene.next(), answer(3, false, &["no disk"]));
}

#[test]
fn what_is_being_prepared_is_not_begun_anew() {
    let scene = Scene::new(true);
    *scene.state.lock() = State::Slow(5);
    scene.reload(1);
    // Looks at it that find nothing new; each of them used to be a new beginning.
    for ticket in 2..6 {
        thread::sleep(Duration::from_millis(300));
        scene.reload(ticket);
    }
    assert_eq!(scene.next(), published("boot.ova", 5));
    assert!(matches!(scene.next(), Told::Answered(answer) if answer.ticket == 5));
    assert_eq!(*scene.begun.lock(), 1);
}

#[test]
fn what_was_taken_back_is_not_shown() {
    let scene = Scene::new(true);
    *scene.state.lock() = State::Slow(5);
    scene.reload(1);
    thread::sleep(Duration::from_millis(300));
    *scene.state.lock() = State::Ready(1);
    scene.reload(2);
    assert!(matches!(scene.next(), Told::Answered(answer) if !answer.is_new));
    // Longer than the preparation takes.
    thread::sleep(Duration::from_secs(2));
    let later: Vec<Told> = scene.told.try_iter().collect();
    let is_shown = |told: &Told| matches!(told, Told::Published(_));
    assert!(!later.iter().any(is_shown), "{later:?}");
}

#[test]
fn who_waits_for_all_images_sees_the_old_ones_until_then() {
    let scene = Scene::new(true);
    *scene.state.lock() = State::Pending(5, Ok(()));
    scene.reload(1);
    assert_eq!(scene.next(), published("boot.ova", 5));
    assert!(matches!(scene.next(), Told::Answered(answer) if answer.is_new));
    *scene.state.lock() = State::Pending(6, Err(()));
    scene.reload(2);
    assert_eq!(
        scene.next(),
        Told::Refused("the images cannot be prepared: no".to_owned())
    );
}
