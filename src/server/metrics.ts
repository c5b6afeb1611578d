import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Sessions } from '../sessions/index.js';

/** Prometheus metrics of one server. Labels are few and bounded: never a URL, an id or a prompt. */
export class Metrics {
  readonly registry = new Registry();
  readonly requests = this.histogram('longlive_http_request_seconds', 'HTTP requests, streams included', [
    'route',
    'status',
  ]);
  readonly operations = this.counter('longlive_graphql_operations_total', 'GraphQL operations', ['kind', 'outcome']);
  readonly streamed = this.counter('longlive_stream_events_total', 'Events sent to subscribers', ['type']);
  readonly mediaBytes = this.counter('longlive_media_bytes_total', 'Bytes of chunks read for clients', ['source']);
  readonly delivery = this.histogram(
    'longlive_chunk_delivery_seconds',
    'From a chunk being logged to being handed to a subscriber',
    [],
  );
  readonly sockets = new Gauge({ name: 'longlive_websockets', help: 'Open WebSockets', registers: [this.registry] });

  observe(sessions: Pick<Sessions, 'status'>, subscribers: () => number): void {
    collectDefaultMetrics({ register: this.registry });
    const status = oncePerScrape(() => sessions.status());
    this.gauge('longlive_subscriptions', 'Open session streams', [], (gauge) => gauge.set(subscribers()));
    this.gauge('longlive_sessions', 'Sessions in memory', ['state'], (gauge) => {
      gauge.reset();
      for (const [state, count] of Object.entries(status().sessions)) gauge.set({ state }, count);
    });
    this.counter(
      'longlive_refused_recordings_total',
      'Pieces of work that the GPU driver refused to record (CUDA graphs) and that are launched call by call, more slowly',
      [],
      (counter) => {
        counter.reset();
        counter.inc(status().refusedRecordings);
      },
    );
    this.gauge('longlive_wanted_workers', 'Servers that generate that there should be', [], (gauge) => {
      set(gauge, status().demand?.wanted);
    });
    this.gauge('longlive_workers', 'Servers that generate', [], (gauge) => set(gauge, status().demand?.workers));
    this.gauge(
      'longlive_waiting_sessions',
      'Sessions that were asked for and for which there was no room',
      [],
      (gauge) => {
        set(gauge, status().demand?.waiting);
      },
    );
    this.gauge('longlive_device_load', 'Share of a device that REALTIME sessions need', ['device'], (gauge) => {
      for (const { device, load } of status().devices) gauge.set({ device }, load);
    });
    this.gauge('longlive_block_seconds', 'Device time per block, smoothed', ['device'], (gauge) => {
      for (const { device, blockMilliseconds } of status().devices) {
        if (blockMilliseconds !== undefined) gauge.set({ device }, blockMilliseconds / 1000);
      }
    });
  }

  private counter<Label extends string>(
    name: string,
    help: string,
    labelNames: Label[],
    collect?: (counter: Counter<Label>) => void,
  ): Counter<Label> {
    return new Counter<Label>({
      ...{ name, help, labelNames, registers: [this.registry] },
      collect() {
        collect?.(this);
      },
    });
  }

  private histogram<Label extends string>(name: string, help: string, labelNames: Label[]): Histogram<Label> {
    const buckets = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30];
    return new Histogram({ name, help, labelNames, buckets, registers: [this.registry] });
  }

  private gauge<Label extends string>(
    name: string,
    help: string,
    labelNames: Label[],
    collect: (gauge: Gauge<Label>) => void,
  ): void {
    new Gauge<Label>({
      name,
      help,
      labelNames,
      registers: [this.registry],
      collect() {
        collect(this);
      },
    });
  }
}

/** All metrics of a scrape are collected in one go, and tell of the same moment. */
function oncePerScrape<T>(read: () => T): () => T {
  let known: { value: T } | undefined;
  return () => {
    if (!known) queueMicrotask(() => (known = undefined));
    known ??= { value: read() };
    return known.value;
  };
}

/** At a server that does not know it there is no such figure, rather than 0. */
function set(gauge: Gauge, value: number | undefined): void {
  if (value === undefined) gauge.remove();
  else gauge.set(value);
}
