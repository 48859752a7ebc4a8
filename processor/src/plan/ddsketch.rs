//! `ddsketch(duration)`: the sketch as a DataFusion aggregate. Its state and its result are the sketch's own bytes.

use crate::sketch::Sketch;
use arrow::{
    array::{Array, ArrayRef, BinaryArray, BinaryBuilder, BooleanArray, Float64Array},
    datatypes::{DataType, Field, FieldRef},
};
use datafusion::{
    common::{
        DataFusionError, Result, ScalarValue,
        cast::{as_binary_array, as_float64_array},
    },
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
    },
};
use std::sync::Arc;

pub(super) fn function() -> AggregateUDF {
    AggregateUDF::new_from_impl(DdSketch {
        signature: Signature::exact(vec![DataType::Float64], Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DdSketch {
    signature: Signature,
}

impl AggregateUDFImpl for DdSketch {
    fn name(&self) -> &'static str {
        "ddsketch"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[sketch]", args.name), DataType::Binary, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(One::default()))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Groups::default()))
    }
}

fn merge_into(sketch: &mut Sketch, bytes: &[u8]) -> Result<()> {
    sketch.merge_bytes(bytes).map_err(|error| DataFusionError::External(Box::new(error)))
}

/// The sketch of all rows, where there are no groups.
#[derive(Debug, Default)]
struct One(Sketch);

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        as_float64_array(&values[0])?.iter().flatten().for_each(|value| self.0.add(value));
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        as_binary_array(&states[0])?.iter().flatten().try_for_each(|bytes| merge_into(&mut self.0, bytes))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Binary(Some(self.0.to_bytes())))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.0.heap_bytes()
    }
}

/// A sketch for each group.
#[derive(Debug, Default)]
struct Groups {
    sketches: Vec<Sketch>,
    heap_bytes: usize,
}

impl Groups {
    fn change(&mut self, group: usize, change: impl FnOnce(&mut Sketch) -> Result<()>) -> Result<()> {
        let sketch = &mut self.sketches[group];
        let before = sketch.heap_bytes();
        change(sketch)?;
        self.heap_bytes = self.heap_bytes + sketch.heap_bytes() - before;
        Ok(())
    }

    fn emit(&mut self, emit_to: EmitTo) -> BinaryArray {
        let emitted = emit_to.take_needed(&mut self.sketches);
        self.heap_bytes -= emitted.iter().map(Sketch::heap_bytes).sum::<usize>();
        let mut builder = BinaryBuilder::with_capacity(emitted.len(), emitted.len() * 64);
        let mut bytes = Vec::new();
        for sketch in &emitted {
            bytes.clear();
            sketch.write(&mut bytes);
            builder.append_value(&bytes);
        }
        builder.finish()
    }
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.sketches.resize_with(total_num_groups, Sketch::default);
        let values = as_float64_array(&values[0])?;
        for (row, group) in group_indices.iter().enumerate() {
            if values.is_valid(row) && passes(filter, row) {
                let value = values.value(row);
                self.change(*group, |sketch| {
                    sketch.add(value);
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(Arc::new(self.emit(emit_to)))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(self.emit(emit_to))])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.sketches.resize_with(total_num_groups, Sketch::default);
        let states = as_binary_array(&values[0])?;
        for (row, group) in group_indices.iter().enumerate() {
            if states.is_valid(row) {
                self.change(*group, |sketch| merge_into(sketch, states.value(row)))?;
            }
        }
        Ok(())
    }

    /// Each row as a group of its own, when grouping would not reduce anything.
    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values: &Float64Array = as_float64_array(&values[0])?;
        let states: BinaryArray = (0..values.len())
            .map(|row| {
                let mut sketch = Sketch::default();
                if values.is_valid(row) && passes(filter, row) {
                    sketch.add(values.value(row));
                }
                Some(sketch.to_bytes())
            })
            .collect();
        Ok(vec![Arc::new(states)])
    }

    fn size(&self) -> usize {
        self.sketches.capacity() * size_of::<Sketch>() + self.heap_bytes
    }
}

fn passes(filter: Option<&BooleanArray>, row: usize) -> bool {
    filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
}
