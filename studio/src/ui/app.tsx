import { useEffect, useRef, useState } from 'preact/hooks';
import {
  branchOff,
  createSession,
  type CreateInput,
  fetchService,
  fetchSession,
  type ForkInput,
  type Model,
  type Session,
} from '../lib/api';
import { RequestError, setToken } from '../lib/graphql';
import { Watching } from '../lib/watching';
import { Home } from './home';
import { type Choice, choiceInput, chosenModel, ModelPicker } from './model-picker';
import { PromptBox } from './prompt-box';
import { Stage } from './stage';
import { TokenForm } from './token-form';
import { Watcher } from './watcher';

type Service = Awaited<ReturnType<typeof fetchService>>;

export function App() {
  const video = useRef<HTMLVideoElement>(null);
  const [service, setService] = useState<Service>();
  const [watching, setWatching] = useState<Watching>();
  const [problem, setProblem] = useState<string>();
  const [locked, setLocked] = useState(false);
  const [choice, setChoice] = useState<Choice>({ loras: {} });
  const models = service?.models ?? [];

  const report = (error: unknown) => {
    if (error instanceof RequestError && error.status === 401) setLocked(true);
    else setProblem((error as Error).message);
  };

  const watch = (session: Session, heartbeatSeconds: number, askedAt?: number) => {
    watching?.close();
    history.replaceState(null, '', `?session=${encodeURIComponent(session.id)}`);
    setProblem(undefined);
    setWatching(new Watching(session, video.current as HTMLVideoElement, { heartbeatSeconds, askedAt }));
  };

  const leave = () => {
    watching?.close();
    setWatching(undefined);
    setProblem(undefined);
    history.replaceState(null, '', location.pathname);
    void arrive(); // What there is to choose from may be another.
  };

  /** Whether the session was made. */
  const begin = async (create: () => Promise<Session>): Promise<boolean> => {
    const askedAt = performance.now();
    setProblem(undefined);
    try {
      watch(await create(), service?.heartbeatSeconds ?? 10, askedAt);
      return true;
    } catch (error) {
      report(error);
      return false;
    }
  };
  const start = (input: CreateInput) => begin(() => createSession({ ...choiceInput(models, choice), ...input }));
  const branch = (input: ForkInput) => begin(() => branchOff(input));

  const open = async (id: string, heartbeatSeconds: number) => {
    try {
      watch(await fetchSession(id), heartbeatSeconds);
    } catch (error) {
      report(error);
    }
  };

  const arrive = async () => {
    try {
      const found = await fetchService();
      setLocked(false);
      setService(found);
      const id = new URLSearchParams(location.search).get('session');
      if (id) await open(id, found.heartbeatSeconds);
    } catch (error) {
      report(error);
    }
  };
  useEffect(() => void arrive(), []);

  if (locked) {
    return (
      <TokenForm
        onToken={(token) => {
          setToken(token);
          void arrive();
        }}
      />
    );
  }
  return (
    <main class={watching ? 'watching' : 'home'}>
      <header>
        <button class="wordmark" onClick={leave} aria-label="LongLive, start page">
          <img src="/favicon.svg" alt="" width="26" height="26" />
          LongLive
        </button>
        <span class="muted">
          {watching ? made(watching.store.state.session, models) : runs(chosenModel(models, choice))}
        </span>
        <nav>
          {watching && <button onClick={leave}>New session</button>}
          <a href="/graphql">API</a>
        </nav>
      </header>
      <Stage video={video} watching={watching} />
      {watching ? (
        <Watcher
          watching={watching}
          video={video}
          onStart={start}
          onBranch={branch}
          onOpen={(id) => void open(id, service?.heartbeatSeconds ?? 10)}
        />
      ) : (
        <>
          <div class="beginning">
            <PromptBox live={false} onSubmit={(prompt, { seed, maxSeconds }) => start({ prompt, seed, maxSeconds })} />
            <ModelPicker models={models} choice={choice} onChange={setChoice} />
          </div>
          {service && (
            <Home
              guide={chosenModel(models, choice)?.guide ?? null}
              onOpen={(id) => void open(id, service.heartbeatSeconds)}
              onPrompt={(prompt) => void start({ prompt })}
            />
          )}
        </>
      )}
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      {service && !service.accepting && <p class="problem">The service takes no sessions now. {service.detail}</p>}
    </main>
  );
}

function runs(model: Model | undefined): string {
  return model ? `${model.title} · ${model.device} · ${model.precision}` : '';
}

/** What a session is made with. */
function made({ modelName, loras }: Session, models: Model[]): string {
  const model = models.find(({ name }) => name === modelName);
  return [model ? runs(model) : modelName, ...loras.map(({ name, weight }) => `${name} ${weight}`)].join(' · ');
}
