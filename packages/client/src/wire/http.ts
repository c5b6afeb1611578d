/** GraphQL over HTTP, subscriptions over SSE, and files. */
import { ConnectionError, RequestError, toError, UnauthorizedError } from '../errors.js';
import { wait } from '../time.js';
import type { Token } from './token.js';
import type { Answer, Carrier, Operation, Sink, Stop } from './wire.js';

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** Requests carry keys, so that one whose answer was lost may be sent again. */
const ATTEMPTS = 3;
const RETRY_MS = 250;

export class HttpWire implements Carrier {
  constructor(
    private readonly url: string,
    private readonly token: Token,
    private readonly fetch: Fetch,
    private readonly signal: AbortSignal,
  ) {}

  async request<Data, Variables>(
    operation: Operation<Data, Variables>,
    variables: Variables,
    signal?: AbortSignal,
  ): Promise<Data> {
    const both = this.with(signal);
    return again(both, async () => {
      const response = await this.post(operation, variables, 'application/json', both);
      const { data, errors } = (await response.json().catch(() => ({}))) as Answer<Data>;
      if (errors?.[0] || !data) throw refusal(response, errors);
      return data;
    });
  }

  async file(url: string, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const both = this.with(signal);
    return again(both, async () => {
      const response = await this.send(url, { signal: both });
      if (!response.ok) throw refusal(response);
      return new Uint8Array(await response.arrayBuffer().catch((error: unknown) => broken(error, both)));
    });
  }

  subscribe<Data, Variables>(operation: Operation<Data, Variables>, variables: Variables, sink: Sink<Data>): Stop {
    const stopped = new AbortController();
    const signal = this.with(stopped.signal);
    this.stream(operation, variables, sink, signal).then(
      () => !stopped.signal.aborted && sink.complete(),
      (error: unknown) => !stopped.signal.aborted && sink.error(toError(error)),
    );
    return () => stopped.abort();
  }

  close(): void {} // What is under way ends by the signal.

  private with(signal: AbortSignal | undefined): AbortSignal {
    return signal ? AbortSignal.any([this.signal, signal]) : this.signal;
  }

  private async stream<Data, Variables>(
    operation: Operation<Data, Variables>,
    variables: Variables,
    sink: Sink<Data>,
    signal: AbortSignal,
  ): Promise<void> {
    const response = await this.post(operation, variables, 'text/event-stream', signal);
    if (!response.ok || !response.body) throw refusal(response);
    const isStream = response.headers.get('content-type')?.startsWith('text/event-stream');
    if (!isStream) throw refusal(response, ((await response.json().catch(() => ({}))) as Answer<Data>).errors);
    sink.open();
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let text = '';
    for (;;) {
      const { value, done } = await reader.read().catch((error: unknown) => broken(error, signal));
      if (done) throw new ConnectionError('The stream broke.');
      const blocks = (text + decoder.decode(value, { stream: true })).split(/\r?\n\r?\n/);
      text = blocks.pop() ?? '';
      for (const block of blocks)
        if (take(block, sink) === 'complete') return void reader.cancel().catch(() => undefined);
    }
  }

  private async post(
    operation: Pick<Operation<never, never>, 'text'>,
    variables: unknown,
    accept: string,
    signal: AbortSignal,
  ): Promise<Response> {
    const body = JSON.stringify({ query: operation.text, variables });
    for (let first = true; ; first = false) {
      const token = await this.token.get();
      const headers = {
        'content-type': 'application/json',
        accept,
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
      };
      const response = await this.send(this.url, { method: 'POST', headers, body, signal });
      if (response.status !== 401) return response;
      this.token.refuse(token);
      if (!first) throw new UnauthorizedError();
    }
  }

  private async send(url: string, init: RequestInit & { signal: AbortSignal }): Promise<Response> {
    return this.fetch(url, init).catch((error: unknown) => broken(error, init.signal));
  }
}

/** Sends again what the network lost, or a gateway has no service for. */
async function again<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      const passing =
        error instanceof ConnectionError || (error instanceof RequestError && [502, 503].includes(error.status ?? 0));
      if (!passing || attempt === ATTEMPTS) throw error;
      await wait(RETRY_MS * 2 ** attempt, signal);
    }
  }
}

function broken(error: unknown, signal: AbortSignal): never {
  signal.throwIfAborted();
  throw new ConnectionError('The service cannot be reached.', { cause: error });
}

function refusal(response: Response, errors?: Answer<unknown>['errors']): RequestError {
  const elsewhere = [404, 405].includes(response.status) ? ' Check its address: without /graphql.' : '';
  return new RequestError(
    errors?.[0]?.message ?? `The service answered ${response.status}.${elsewhere}`,
    response.status,
  );
}

function take<Data>(block: string, sink: Sink<Data>): 'complete' | undefined {
  const lines = block.split(/\r?\n/);
  const field = (name: string) =>
    lines
      .find((line) => line.startsWith(`${name}:`))
      ?.slice(name.length + 1)
      .trimStart();
  if (field('event') === 'complete') return 'complete';
  const json = field('data');
  if (field('event') !== 'next' || !json) return undefined;
  const { data, errors } = JSON.parse(json) as Answer<Data>;
  if (!data) throw new RequestError(errors?.[0]?.message ?? 'The stream failed.');
  sink.next(data);
  return undefined;
}
