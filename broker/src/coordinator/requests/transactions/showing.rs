//! ListTransactions and DescribeTransactions.

use super::super::text;
use crate::coordinator::{
    Coordinator,
    transaction::{State, Transaction},
};
use kafka_protocol::{
    ResponseError,
    messages::{
        DescribeTransactionsRequest, DescribeTransactionsResponse, ListTransactionsRequest,
        ListTransactionsResponse, TransactionalId,
        describe_transactions_response::{TopicData, TransactionState as Described},
        list_transactions_response::TransactionState as Listed,
    },
};
use std::collections::BTreeMap;

impl Coordinator {
    pub async fn list_transactions(
        &self,
        _version: i16,
        request: ListTransactionsRequest,
    ) -> ListTransactionsResponse {
        let now_ms = self.shared.now_ms();
        let is_known = |name: &str| State::ALL.iter().any(|state| state.name() == name);
        let asks_for = |known: &&Transaction| {
            let states = &request.state_filters;
            let producers = &request.producer_id_filters;
            let is_long = request.duration_filter < 0 || now_ms - known.start_ms > request.duration_filter;
            (states.is_empty() || states.iter().any(|state| state.as_str() == known.state.name()))
                && (producers.is_empty() || producers.iter().any(|producer| producer.0 == known.producer_id))
                && is_long
        };
        let list = |known: &Transaction| {
            Listed::default()
                .with_transactional_id(text(known.id.as_str()).into())
                .with_producer_id(known.producer_id.into())
                .with_transaction_state(known.state.name().into())
        };
        let listed = self.shared.state().transactions.all().filter(asks_for).map(list).collect();
        let unknown = request.state_filters.iter().filter(|name| !is_known(name)).cloned().collect();
        ListTransactionsResponse::default()
            .with_transaction_states(listed)
            .with_unknown_state_filters(unknown)
    }

    pub async fn describe_transactions(
        &self,
        _version: i16,
        request: DescribeTransactionsRequest,
    ) -> DescribeTransactionsResponse {
        let state = self.shared.state();
        let describe = |id: TransactionalId| match state.transactions.get(&id) {
            Some(known) => described(known).with_transactional_id(id),
            None if id.is_empty() => refused(ResponseError::InvalidRequest).with_transactional_id(id),
            None => refused(ResponseError::TransactionalIdNotFound).with_transactional_id(id),
        };
        let states = request.transactional_ids.into_iter().map(describe).collect();
        DescribeTransactionsResponse::default().with_transaction_states(states)
    }
}

fn refused(error: ResponseError) -> Described {
    Described::default().with_error_code(error.code())
}

fn described(known: &Transaction) -> Described {
    let mut topics = BTreeMap::<&str, Vec<i32>>::new();
    for (topic, partition) in &known.partitions {
        topics.entry(topic).or_default().push(*partition);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        TopicData::default().with_topic(text(topic).into()).with_partitions(partitions)
    });
    Described::default()
        .with_transaction_state(known.state.name().into())
        .with_transaction_timeout_ms(known.timeout_ms)
        .with_transaction_start_time_ms(known.start_ms)
        .with_producer_id(known.producer_id.into())
        .with_producer_epoch(known.epoch)
        .with_topics(topics.collect())
}
