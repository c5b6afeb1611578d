import { builder } from './builder.js';
import { withoutPaths } from './redact.js';

export const Failure = builder.objectRef<{ code: string; message: string }>('Failure').implement({
  description: 'What went wrong in a session.',
  fields: (t) => ({
    code: t.exposeString('code', { description: 'What kind of failure it is, such as `ENGINE` or `STORAGE`.' }),
    message: t.string({
      description: 'What is wrong and what to do; for people.',
      resolve: ({ message }) => withoutPaths(message),
    }),
  }),
});
