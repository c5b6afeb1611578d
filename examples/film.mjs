// node examples/film.mjs "a red fox runs on the grass by day" film.mp4
import { writeFile } from 'node:fs/promises';
import { createClient } from '@longlive/client';

const { LONGLIVE_URL: url = 'http://localhost:4000', LONGLIVE_TOKEN: token } = process.env;
const [prompt = 'a red fox runs on the grass by day', file = 'film.mp4'] = process.argv.slice(2);

const live = createClient({ url, token });
const film = await live.render({
  timeline: [{ prompt }, { prompt: 'a blue robot walks on the road at night', atSeconds: 3 }],
  maxSeconds: 6,
  onProgress: ({ seconds, of }) => console.log(`${seconds} of ${of} s`),
});
await writeFile(file, await film.download());
