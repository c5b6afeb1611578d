/** GraphQL over HTTP, and subscriptions over SSE: reading the body is what pulls, so back-pressure reaches the server. */

/** What the server says to a request it does not serve: no token, a limit, a bug. */
export class RequestError extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

const TOKEN = 'longlive-token';

export function setToken(token: string): void {
  sessionStorage.setItem(TOKEN, token);
}

/** A token in the address, behind `#token=`, where servers do not see it: kept, and taken out of the address. */
export function takeTokenFromAddress(): void {
  const [, token] = /^#token=([^&]+)$/.exec(location.hash) ?? [];
  if (token === undefined) return;
  setToken(decodeURIComponent(token));
  history.replaceState(null, '', location.pathname + location.search);
}

interface Answer<Data> {
  data?: Data | null;
  errors?: { message: string }[];
}

export async function request<Data>(query: string, variables: object = {}): Promise<Data> {
  const response = await post(query, variables, 'application/json');
  const { data, errors } = (await response.json()) as Answer<Data>;
  if (!data) throw new RequestError(errors?.[0]?.message ?? 'The service gave no answer.', response.status);
  return data;
}

/** The items of a subscription. Throws when nothing arrives for `silenceSeconds`, or the connection breaks. */
export async function* subscribe<Data>(
  query: string,
  variables: object,
  { signal, silenceSeconds }: { signal: AbortSignal; silenceSeconds: number },
): AsyncGenerator<Data, void, undefined> {
  const connection = new AbortController();
  const combined = AbortSignal.any([signal, connection.signal]);
  try {
    const response = await post(query, variables, 'text/event-stream', combined);
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    while (reader) {
      const { value, done } = await within(reader.read(), silenceSeconds);
      if (done) return;
      const blocks = (text + value).split('\n\n');
      text = blocks.pop() ?? '';
      for (const block of blocks) {
        const item = parseBlock<Data>(block);
        if (item === 'complete') return;
        if (item) yield item;
      }
    }
  } finally {
    connection.abort();
  }
}

function parseBlock<Data>(block: string): Data | 'complete' | undefined {
  const lines = block.split('\n');
  if (lines.includes('event: complete')) return 'complete';
  const json = lines.find((line) => line.startsWith('data: '))?.slice(6);
  if (!lines.includes('event: next') || !json) return undefined;
  const { data, errors } = JSON.parse(json) as Answer<Data>;
  if (!data) throw new RequestError(errors?.[0]?.message ?? 'The stream failed.', 500);
  return data;
}

async function post(query: string, variables: object, accept: string, signal?: AbortSignal): Promise<Response> {
  const token = sessionStorage.getItem(TOKEN);
  const response = await fetch('/graphql', {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept, ...(token ? { authorization: `Bearer ${token}` } : {}) },
    body: JSON.stringify({ query, variables }),
    signal: signal ?? null,
  });
  if (response.status === 401) throw new RequestError('This service asks for a token.', 401);
  return response;
}

function within<T>(promise: Promise<T>, seconds: number): Promise<T> {
  let timer: number | undefined;
  const silence = new Promise<never>((_resolve, reject) => {
    timer = window.setTimeout(() => reject(new Error('The service fell silent.')), seconds * 1000);
  });
  return Promise.race([promise, silence]).finally(() => clearTimeout(timer));
}
