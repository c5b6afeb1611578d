// BUCKET=films node examples/batch-to-s3.mjs prompts.txt
// One prompt a line; each becomes s3://films/<line>.mp4. Credentials and AWS_ENDPOINT_URL come from the environment as usual.
import { readFile } from 'node:fs/promises';
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { AtCapacityError, createClient } from '@longlive/client';

const { LONGLIVE_URL: url = 'http://localhost:4000', LONGLIVE_TOKEN: token, BUCKET, AT_ONCE = '2' } = process.env;
const prompts = (await readFile(process.argv[2], 'utf8')).split('\n').filter((line) => line.trim() !== '');

const live = createClient({ url, token });
const s3 = new S3Client({ forcePathStyle: true });

/** Waits as long as the service says where it has no room. */
async function render(prompt) {
  for (;;) {
    try {
      return await live.render({ prompt, maxSeconds: 3 });
    } catch (error) {
      if (!(error instanceof AtCapacityError)) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000 * error.retryAfterSeconds));
    }
  }
}

const waiting = prompts.entries();
await Promise.all(
  Array.from({ length: Number(AT_ONCE) }, async () => {
    for (const [line, prompt] of waiting) {
      const film = await render(prompt);
      const Key = `${line + 1}.mp4`;
      const Body = await film.download();
      await s3.send(new PutObjectCommand({ Bucket: BUCKET, Key, Body, ContentType: 'video/mp4' }));
      await film.delete();
      console.log(`${Key}: ${prompt}`);
    }
  }),
);
