//! Events in a Parquet file: typed columns, Snappy, row groups of bounded size.

use std::{io::Write, sync::Arc};

use anyhow::{Context as _, Result};
use domain::envelope::RecordedEvent;
use parquet::{
    basic::Compression,
    data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type},
    file::{
        properties::WriterProperties,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::parser::parse_message_type,
};
use projections::masking;

/// Ids as bare ULIDs, times in microseconds UTC, meta and payload as stored, but for tokens of cards.
const SCHEMA: &str = "
message event {
    required int64 position;
    required binary tenant (STRING);
    required binary stream_type (STRING);
    required binary stream_id (STRING);
    required int64 version;
    required binary type (STRING);
    required int32 schema_version;
    required int32 slice;
    required int64 occurred_at (TIMESTAMP(MICROS,true));
    required int64 recorded_at (TIMESTAMP(MICROS,true));
    required binary correlation_id (STRING);
    required binary causation_id (STRING);
    required binary actor (STRING);
    required binary meta (JSON);
    required binary payload (JSON);
    optional binary pii;
    required binary hash;
}";

/// Events of a row group.
const MOST_EVENTS: usize = 20_000;
/// Payload bytes of a row group.
const MOST_BYTES: usize = 16 << 20;

/// A file being written; memory: one row group.
pub struct ParquetFile<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    group: Vec<RecordedEvent>,
    bytes: usize,
}

impl<W: Write + Send> ParquetFile<W> {
    /// Into `sink`.
    ///
    /// # Errors
    /// The sink fails.
    pub fn new(sink: W) -> Result<Self> {
        let schema = Arc::new(parse_message_type(SCHEMA).context("the schema of events")?);
        // A fixed author, so that the same events give the same bytes with every build of the library.
        let properties =
            WriterProperties::builder().set_compression(Compression::SNAPPY).set_created_by("smartpos replay".to_owned()).build();
        Ok(Self { writer: SerializedFileWriter::new(sink, schema, Arc::new(properties))?, group: Vec::new(), bytes: 0 })
    }

    /// The next event.
    ///
    /// # Errors
    /// The sink fails.
    pub fn event(&mut self, event: RecordedEvent) -> Result<()> {
        self.bytes += event.payload.len();
        self.group.push(masking::event(event));
        if self.group.len() >= MOST_EVENTS || self.bytes >= MOST_BYTES { self.write_group() } else { Ok(()) }
    }

    /// The end.
    ///
    /// # Errors
    /// The sink fails.
    pub fn finish(mut self) -> Result<()> {
        self.write_group()?;
        let mut sink = self.writer.into_inner()?;
        Ok(sink.flush()?)
    }

    fn write_group(&mut self) -> Result<()> {
        let events = std::mem::take(&mut self.group);
        self.bytes = 0;
        if events.is_empty() {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        // In the order of the schema.
        integers::<Int64Type, _>(&mut group, &events, |event| event.pos)?;
        texts(&mut group, &events, |event| event.stream.tenant.0.to_string())?;
        texts(&mut group, &events, |event| event.stream.stream_type.as_str())?;
        texts(&mut group, &events, |event| event.stream.stream_id.to_string())?;
        integers::<Int64Type, _>(&mut group, &events, |event| event.version)?;
        texts(&mut group, &events, |event| event.event_type.as_str())?;
        integers::<Int32Type, _>(&mut group, &events, |event| i32::from(event.schema_version))?;
        integers::<Int32Type, _>(&mut group, &events, |event| i32::from(event.slice))?;
        integers::<Int64Type, _>(&mut group, &events, |event| event.occurred_at.timestamp_micros())?;
        integers::<Int64Type, _>(&mut group, &events, |event| event.recorded_at.timestamp_micros())?;
        texts(&mut group, &events, |event| event.correlation_id.to_string())?;
        texts(&mut group, &events, |event| event.causation_id.to_string())?;
        texts(&mut group, &events, |event| event.actor.as_str())?;
        texts(&mut group, &events, |event| event.meta.as_slice())?;
        texts(&mut group, &events, |event| event.payload.as_slice())?;
        optional(&mut group, &events)?;
        texts(&mut group, &events, |event| event.hash.to_vec())?;
        group.close()?;
        Ok(())
    }
}

fn column<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[T::T],
    levels: Option<&[i16]>,
) -> Result<()> {
    let mut column = group.next_column()?.context("the schema has fewer columns than are written")?;
    column.typed::<T>().write_batch(values, levels, None)?;
    Ok(column.close()?)
}

fn integers<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    events: &[RecordedEvent],
    of: impl Fn(&RecordedEvent) -> T::T,
) -> Result<()> {
    column::<T, W>(group, &events.iter().map(of).collect::<Vec<_>>(), None)
}

fn texts<'a, B: AsRef<[u8]>, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    events: &'a [RecordedEvent],
    of: impl Fn(&'a RecordedEvent) -> B,
) -> Result<()> {
    let values: Vec<ByteArray> = events.iter().map(|event| ByteArray::from(of(event).as_ref().to_vec())).collect();
    column::<ByteArrayType, W>(group, &values, None)
}

fn optional<W: Write + Send>(group: &mut SerializedRowGroupWriter<'_, W>, events: &[RecordedEvent]) -> Result<()> {
    let levels: Vec<i16> = events.iter().map(|event| i16::from(event.pii.is_some())).collect();
    let values: Vec<ByteArray> = events.iter().filter_map(|event| event.pii.clone()).map(ByteArray::from).collect();
    column::<ByteArrayType, W>(group, &values, Some(&levels))
}
