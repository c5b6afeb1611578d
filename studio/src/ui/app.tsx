import type { ModelFacts, ServiceFacts } from '@longlive/client';
import { useEffect, useState } from 'preact/hooks';
import { gate, live, withToken } from '../lib/live';
import { go, route } from '../lib/route';
import { chosenModel, NO_SETUP, type Setup } from '../lib/setup';
import { useStore } from '../lib/store';
import { type Problem, problemOf } from '../lib/words';
import { Home } from './home';
import { SessionPage } from './session-page';
import { TokenForm } from './token-form';

export function App() {
  const { now } = useStore(route);
  const { asking } = useStore(gate.store);
  const { service, models, problem } = useService(now.session === undefined);
  const [setup, setSetup] = useState<Setup>(NO_SETUP);
  const model = chosenModel(models, setup);
  const watching = now.session !== undefined;
  return (
    <main class={watching ? 'watching' : 'home'}>
      <header>
        <h1>
          <button class="wordmark" onClick={() => watching && go({})} title="To the start page">
            <img src="/favicon.svg" alt="" width="26" height="26" />
            LongLive
          </button>
        </h1>
        {!watching && model && (
          <span class="muted">
            {model.title} · {model.device} · {model.precision}
          </span>
        )}
        <nav aria-label="Pages">
          {watching && <button onClick={() => go({})}>New session</button>}
          <a href="/graphql">API</a>
        </nav>
      </header>
      {service && !service.accepting && (
        <p class="problem" role="alert">
          The service takes no sessions now. {service.detail}
        </p>
      )}
      {now.session ? (
        <SessionPage
          key="session"
          {...{ id: now.session, at: now.at, compare: now.compare, models, setup }}
          onSetup={setSetup}
        />
      ) : (
        <Home key="home" {...{ models, setup, problem }} onSetup={setSetup} />
      )}
      {asking && <div class="veil" />}
      <TokenForm />
    </main>
  );
}

const AGAIN_MS = 2000;

/** Asked again until it answers, and whenever somebody comes to the start page: what there is to choose from may be another. */
function useService(home: boolean) {
  const [service, setService] = useState<ServiceFacts>();
  const [models, setModels] = useState<readonly ModelFacts[]>([]);
  const [problem, setProblem] = useState<Problem>();
  useEffect(() => {
    let left = false;
    const look = async (): Promise<void> => {
      try {
        const [facts, found] = await withToken(() => Promise.all([live.service(), live.models()]));
        if (left) return;
        setService(facts);
        setModels(found);
        setProblem(undefined);
      } catch (error) {
        if (left) return;
        setProblem(problemOf(error));
        setTimeout(() => void look(), AGAIN_MS);
      }
    };
    void look();
    return () => void (left = true);
  }, [home]);
  return { service, models, problem };
}
