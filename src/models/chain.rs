//! A network under construction: the families append their stages to it.

use std::ops::Range;

use super::head::{Classifier, Head, Pooling};
use super::layers::{ConvConfig, ConvInit, Layer, LinearInit, conv2d, linear};
use super::vars::{Path, Vars};
use crate::error::Result;

/// A named part of the chain.
pub(super) struct Stage {
    pub name: String,
    pub body: Box<dyn Layer>,
    pub vars: Range<usize>,
}

/// A network under construction: stages in order, then the head.
pub struct Chain<'a> {
    vars: &'a Vars,
    classes: i64,
    side: i64,
    stages: Vec<Stage>,
    head: Option<Head>,
    pooling: Pooling,
}

impl<'a> Chain<'a> {
    /// An empty chain for `classes` outputs and images of `side` pixels a side.
    pub(super) fn new(vars: &'a Vars, classes: i64, side: i64) -> Self {
        Chain { vars, classes, side, stages: Vec::new(), head: None, pooling: Pooling::Spatial }
    }

    /// The finished parts: the stages, the head if there is one, and the pooling of stage outputs.
    pub(super) fn finish(self) -> (Vec<Stage>, Option<Head>, Pooling) {
        (self.stages, self.head, self.pooling)
    }

    /// Sets the pooling of stage outputs; [`Pooling::Spatial`] unless called.
    pub fn pooling(&mut self, pooling: Pooling) {
        self.pooling = pooling;
    }

    /// The side of the images in pixels, for networks whose variables depend on it.
    pub fn side(&self) -> i64 {
        self.side
    }

    /// The root of the state dict, for parameters outside all stages. They belong to the stage that
    /// is built next; those of the neck, which is built after the last stage, are trained with any
    /// stage.
    pub fn root(&self) -> Path<'a> {
        self.vars.root()
    }

    /// Number of outputs of the head: some families' initial values depend on it.
    pub fn classes(&self) -> i64 {
        self.classes
    }

    /// Appends a stage; its variables are named from the root of the state dict.
    pub fn stage<L: Layer + 'static>(
        &mut self,
        name: impl Into<String>,
        body: impl FnOnce(&Path<'a>) -> Result<L>,
    ) -> Result<()> {
        let start = self.vars.count();
        let body = Box::new(body(&self.vars.root())?);
        self.stages.push(Stage { name: name.into(), body, vars: start..self.vars.count() });
        Ok(())
    }

    /// Ends the chain with a linear classifier of `features` inputs at `key`, behind `neck`, with
    /// `nn.Linear`'s initial values.
    pub fn head(&mut self, key: &'static str, neck: Box<dyn Layer>, features: i64) -> Result<()> {
        self.head_with(key, neck, features, LinearInit::default(features))
    }

    /// The same with other initial values.
    pub fn head_with(
        &mut self,
        key: &'static str,
        neck: Box<dyn Layer>,
        features: i64,
        init: LinearInit,
    ) -> Result<()> {
        self.end(key, neck, |path, classes| Ok(Classifier::Linear(linear(path, features, classes, init)?)))
    }

    /// Ends the chain with a 1×1 convolution as its classifier: see [`Classifier::Convolution`].
    /// The `neck`'s output of `features` channels stays spatial; the features are its mean over
    /// height and width.
    pub fn convolution_head(
        &mut self,
        key: &'static str,
        neck: Box<dyn Layer>,
        features: i64,
        init: ConvInit,
    ) -> Result<()> {
        let config = ConvConfig::new(1).bias().init(init);
        self.end(key, neck, |path, classes| {
            Ok(Classifier::Convolution(conv2d(path, features, classes, config)?))
        })
    }

    fn end(
        &mut self,
        key: &'static str,
        neck: Box<dyn Layer>,
        classifier: impl FnOnce(&Path, i64) -> Result<Classifier>,
    ) -> Result<()> {
        let start = self.vars.count();
        let classifier = classifier(&(self.vars.root() / key), self.classes)?;
        self.head = Some(Head { key, neck, classifier, vars: start..self.vars.count(), reads: Vec::new() });
        Ok(())
    }
}
