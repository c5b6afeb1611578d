/** An operation of `operations.graphql`, with the types of what goes in and comes out. */
export interface Operation<Data, Variables> {
  /** Of this one operation, and of what it needs. */
  readonly text: string;
  readonly types?: (variables: Variables) => Data;
}

/** Takes what a subscription brings. After `error` or `complete` nothing comes any more. */
export interface Sink<Data> {
  /** The subscription is established; events may be far away. */
  open(): void;
  next(data: Data): void;
  error(reason: Error): void;
  complete(): void;
}

/** Ends a subscription. `dead` says that its connection seems to be: others on it are ended with an error. */
export type Stop = (dead?: boolean) => void;

/** How subscriptions are carried. */
export interface Carrier {
  subscribe<Data, Variables>(operation: Operation<Data, Variables>, variables: Variables, sink: Sink<Data>): Stop;
  close(): void;
}

/** What the kit needs of a service; the mock of `@longlive/client/testing` is another one. */
export interface Wire extends Carrier {
  request<Data, Variables>(
    operation: Operation<Data, Variables>,
    variables: Variables,
    signal?: AbortSignal,
  ): Promise<Data>;
  /** A file of the service, by the URL that it gave. */
  file(url: string, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>>;
}

/** What GraphQL answers with. */
export interface Answer<Data> {
  readonly data?: Data | null;
  readonly errors?: readonly { readonly message: string }[];
}
