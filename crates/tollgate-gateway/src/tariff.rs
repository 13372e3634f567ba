//! What a chat costs, and the meter of its answer.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{Extensions, HeaderMap, Method, request::Parts};
use tollgate_chat::{Completion, Dialect, FinishMetadata, RequestError, StreamError};
use tollgate_payment::{Ask, Pricing, port::Admitted};
use tollgate_server::{Drain, Ending, Meter, Outcome, Problem, Tariff, Unpriced};
use tollgate_x402::{Amount, Clock, ErrorCode};

use crate::{
    catalogue::{Catalogue, Model},
    course::{Course, SharedCourse, Writing},
    handover::{Handover, Order},
    memo::Memo,
    tokens::Tokenizer,
    upstream::Upstream,
};

/// The input of a request without a body, in tokens: what `GET` and `HEAD` are quoted.
const ORDINARY_INPUT: u64 = 1024;

/// Prices chats: reads the request once, finds its model, and computes its worst case.
pub struct InferenceTariff<U> {
    shared: Arc<Shared<U>>,
}

struct Shared<U> {
    catalogue: Arc<Catalogue<U>>,
    clock: Arc<dyn Clock>,
    /// Set once the paywall is there, which is made after its tariff.
    drain: OnceLock<Drain>,
    completion_bytes: usize,
}

impl<U> Clone for InferenceTariff<U> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<U> core::fmt::Debug for InferenceTariff<U> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("InferenceTariff")
            .field("models", &self.shared.catalogue.models.len())
            .finish_non_exhaustive()
    }
}

impl<U> InferenceTariff<U> {
    pub(crate) fn new(
        catalogue: Arc<Catalogue<U>>,
        clock: Arc<dyn Clock>,
        completion_bytes: usize,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                catalogue,
                clock,
                drain: OnceLock::new(),
                completion_bytes,
            }),
        }
    }

    /// Tells the meters of a shutdown apart from other cuts.
    pub(crate) fn watch(&self, drain: Drain) {
        let _ = self.shared.drain.set(drain);
    }

    fn priced(&self, model: &Arc<Model<U>>, input: u64, max_output: u64) -> Ask {
        let catalogue = &self.shared.catalogue;
        let quote = model.rates.quote(input, max_output);
        // Where a bound of the input alone is above what is ever charged, the exact count decides, once it is paid for.
        let worst = quote.amount().min(catalogue.max_charge);
        let least = quote
            .minimum(catalogue.least_output)
            .min(catalogue.max_charge);
        Ask {
            resource: catalogue.resource.clone(),
            pricing: Pricing::Metered { worst, least },
        }
    }

    fn meter(&self, model: &str, order: Option<Order<U>>, course: Course) -> InferenceMeter<U> {
        InferenceMeter {
            model: model.to_owned(),
            course: SharedCourse::new(course),
            order,
            attached: false,
            tariff: self.clone(),
        }
    }
}

impl<U: Upstream> Tariff for InferenceTariff<U> {
    type Meter = InferenceMeter<U>;

    fn ask(&self, parts: &Parts, body: &Bytes) -> Result<(Ask, Self::Meter), Unpriced> {
        let catalogue = &self.shared.catalogue;
        if parts.method == Method::GET || parts.method == Method::HEAD {
            let model = &catalogue.default;
            let course = Course::new(model.rates, Writing::Stream(Dialect::DGrid.stream()));
            return Ok((
                self.priced(model, ORDINARY_INPUT, model.max_output.into()),
                self.meter(&model.name, None, course),
            ));
        }
        let request = Dialect::DGrid
            .decode_request(body, &catalogue.reading)
            .map_err(unreadable)?;
        let model = match &request.model {
            None => &catalogue.default,
            Some(name) => catalogue.find(name).ok_or_else(unknown_model)?,
        };
        let files = request.files().next().is_some();
        if files && !model.upstream.takes_files() {
            let message = "this model reads text alone: send no files";
            return Err(Unpriced::Refused(Problem::new(
                ErrorCode::InvalidRequest,
                message,
            )));
        }
        let max_output = request
            .max_output_tokens
            .unwrap_or(model.max_output)
            .clamp(1, model.max_output);
        let short = !files && request.content_bytes() <= catalogue.counted_bytes;
        // Loading the table is not for a request that nobody paid for.
        let counted = Tokenizer::loaded()
            .filter(|_| short)
            .map(|tokenizer| tokenizer.count_request(&request));
        let input = counted.map_or_else(
            || catalogue.input.of(&request),
            |tokens| catalogue.input.around(&request, tokens),
        );
        let ask = self.priced(model, input, max_output.into());
        let writing = if request.stream {
            Writing::Stream(Dialect::DGrid.stream())
        } else {
            // The paywall names the payment; until then the answer has no id.
            Writing::Plain(Completion::new(
                String::new(),
                model.name.clone(),
                self.shared.completion_bytes,
            ))
        };
        let course = Course::new(model.rates, writing);
        let order = Order {
            model: Arc::clone(model),
            max_output,
            counted,
            request,
        };
        let name = order.model.name.clone();
        Ok((ask, self.meter(&name, Some(order), course)))
    }
}

fn unreadable(error: RequestError) -> Unpriced {
    let code = match error {
        RequestError::TooLarge { .. } => ErrorCode::RequestTooLarge,
        _ => ErrorCode::InvalidRequest,
    };
    Unpriced::Refused(Problem::new(code, error.to_string()))
}

fn unknown_model() -> Unpriced {
    // The name is the caller's text: it is not sent back.
    Unpriced::Refused(Problem::new(
        ErrorCode::UnknownModel,
        "there is no model of this name here",
    ))
}

/// Measures one answer.
pub struct InferenceMeter<U> {
    model: String,
    course: SharedCourse,
    order: Option<Order<U>>,
    attached: bool,
    tariff: InferenceTariff<U>,
}

impl<U> core::fmt::Debug for InferenceMeter<U> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("InferenceMeter")
            .field("model", &self.model)
            .field("course", &self.course)
            .finish_non_exhaustive()
    }
}

impl<U: Upstream> Meter for InferenceMeter<U> {
    fn attach(&mut self, admitted: &Admitted, extensions: &mut Extensions) {
        self.attached = true;
        if let Writing::Plain(completion) = &mut self.course.lock().writing {
            completion.id = format!("chatcmpl-{}", admitted.id);
        }
        if let Some(order) = self.order.take() {
            extensions.insert(Handover::new(order, self.course.clone(), admitted));
        }
    }

    fn observe(&mut self, _: &Bytes) -> Amount {
        self.course.lock().see()
    }

    fn memo(&mut self) -> Option<String> {
        if !self.attached {
            return Memo::asked(&self.model).to_json();
        }
        let (usage, calculated) = self.course.lock().seen();
        Memo::answered(&self.model, usage, calculated).to_json()
    }

    fn closing(&mut self, ending: &Ending) -> Option<Bytes> {
        let course = self.course.lock();
        let stopped = match ending.outcome {
            Outcome::Complete => None,
            _ if course.ended().is_some() => None,
            Outcome::Cut if ending.charge.calculated > ending.admitted.cap => None,
            Outcome::Cut => Some(self.tariff.stopped()),
            _ => Some(StreamError::Truncated),
        };
        let charge = &ending.charge;
        let metadata = FinishMetadata::new(
            course.seen().0.total(),
            charge.left,
            charge.calculated,
            charge.amount,
        )
        .with("paymentId", ending.admitted.id.to_string());
        Some(course.close(stopped, &metadata, self.tariff.shared.clock.now().0))
    }

    fn replayed(&mut self, headers: &mut HeaderMap) {
        if let Writing::Stream(_) = &self.course.lock().writing {
            headers.extend(Dialect::DGrid.stream_headers());
        }
    }
}

impl<U> InferenceTariff<U> {
    fn stopped(&self) -> StreamError {
        if self.shared.drain.get().is_some_and(Drain::has_begun) {
            StreamError::Stopped {
                code: "server_draining",
                reason: "server_draining: the server is shutting down; what was delivered is charged",
            }
        } else {
            StreamError::Stopped {
                code: "stopped",
                reason: "the server ended it; what was delivered is charged",
            }
        }
    }
}
