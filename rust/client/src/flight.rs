//! Work that is done once for all who ask while it is under way.

use tokio::sync::watch;

/// Whether the work is under way, and how to hear of its end.
#[derive(Debug)]
pub(crate) struct Flight<T>(Option<watch::Receiver<Option<T>>>);

impl<T> Default for Flight<T> {
    fn default() -> Self {
        Flight(None)
    }
}

/// Held by who does the work.
#[derive(Debug)]
pub(crate) struct Lander<T>(watch::Sender<Option<T>>);

/// Held by who waits for it.
#[derive(Debug)]
pub(crate) struct Landing<T>(watch::Receiver<Option<T>>);

impl<T: Clone> Flight<T> {
    /// Waits with the others, if the work is under way.
    pub(crate) fn join(&self) -> Option<Landing<T>> {
        let under_way = self.0.as_ref().filter(|_| self.is_up())?;
        Some(Landing(under_way.clone()))
    }

    /// Whether the work is under way.
    pub(crate) fn is_up(&self) -> bool {
        let up = |flight: &watch::Receiver<Option<T>>| {
            flight.borrow().is_none() && flight.has_changed().is_ok()
        };
        self.0.as_ref().is_some_and(up)
    }

    /// Begins the work.
    pub(crate) fn start(&mut self) -> (Lander<T>, Landing<T>) {
        let (sender, receiver) = watch::channel(None);
        self.0 = Some(receiver.clone());
        (Lander(sender), Landing(receiver))
    }
}

impl<T> Lander<T> {
    /// Tells what came of it.
    pub(crate) fn land(self, result: T) {
        self.0.send_replace(Some(result));
    }
}

impl<T: Clone> Landing<T> {
    /// What came of it; `None` if whoever did it is gone.
    pub(crate) async fn wait(mut self) -> Option<T> {
        let landed = self.0.wait_for(Option::is_some).await.ok()?;
        landed.clone()
    }
}
