// The whole story with the official JavaScript SDK 1.x: run by node, with the files as arguments.
import assert from "node:assert/strict";
import fs from "node:fs";
import { createRequire } from "node:module";

const [, , modules, film, filmUrl, image, imageUrl, integration] = process.argv;
const { TwelveLabs } = createRequire(`${modules}/`)("twelvelabs-js");
const client = new TwelveLabs({ apiKey: "tlk_any" });

async function all(pager) {
  const items = [];
  for await (const item of pager) items.push(item);
  return items;
}
async function refused(promise, status) {
  await assert.rejects(promise, (error) => error.statusCode === status);
}

const name = `story js ${process.argv[2].split("/").at(-1)}`;
// Until 1.2 the SDK knows Marengo 2.7 with Pegasus in an index, since then Marengo 3.0 alone.
const old = Boolean(client.gist);
const modelOptions = ["visual", "audio"];
const models = old
  ? [{ modelName: "marengo2.7", modelOptions }, { modelName: "pegasus1.2", modelOptions }]
  : [{ modelName: "marengo3.0", modelOptions }];
const index = await client.indexes.create({ indexName: name, models, addons: ["thumbnail"] });
await client.indexes.update(index.id, { indexName: `${name} renamed` });
assert.equal((await client.indexes.retrieve(index.id)).indexName, `${name} renamed`);
assert.deepEqual((await all(await client.indexes.list({ indexName: `${name} renamed` }))).map((i) => i.id), [index.id]);
await refused(client.indexes.create({ indexName: `${name} renamed`, models }), 409);
await refused(client.indexes.retrieve("0123456789abcdef01234567"), 404);

const byFile = await client.tasks.create({ indexId: index.id, videoFile: fs.createReadStream(film) });
const byUrl = await client.tasks.create({ indexId: index.id, videoUrl: filmUrl });
const seen = [];
for (const task of [byFile, byUrl]) {
  const done = await client.tasks.waitForDone(task.id, { sleepInterval: 0.5, callback: (t) => seen.push(t.status) });
  assert.equal(done.status, "ready");
}
assert.ok(seen.length > 0);
const both = new Set([byFile.videoId, byUrl.videoId]);
assert.equal((await all(await client.tasks.list({ indexId: index.id, status: ["ready"] }))).length, 2);

if (client.tasks.transfers) {
  const bucket = await client.indexes.create({ indexName: `${name} imported`, models });
  const imported = await client.tasks.transfers.create(integration, { indexId: bucket.id });
  assert.deepEqual(imported.videos.map((v) => v.filename), ["bucket.mp4"]);
  let state = {};
  while (!state.ready?.length) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    state = await client.tasks.transfers.getStatus(integration, { indexId: bucket.id });
  }
  assert.equal(state.ready[0].videoId, imported.videos[0].videoId);
  assert.equal((await client.tasks.transfers.getLogs(integration)).data.at(-1).videoStatus.ready, 1);
  await client.indexes.delete(bucket.id);
}

const videos = await all(await client.indexes.videos.list(index.id, { pageLimit: 1 }));
assert.deepEqual(new Set(videos.map((v) => v.id)), both);
await client.indexes.videos.update(index.id, byFile.videoId, { userMetadata: { from_sdk: true } });
const video = await client.indexes.videos.retrieve(index.id, byFile.videoId, { embeddingOption: [old ? "visual-text" : "visual", "audio"] });
assert.deepEqual(video.userMetadata, { from_sdk: true });
assert.ok(video.embedding.videoEmbedding.segments[0].float.length > 100);
const filtered = await client.indexes.videos.list(index.id, { userMetadata: { from_sdk: true } });
assert.ok(filtered.data.length >= 1);

const asked = { indexId: index.id, queryText: "Blue ship", searchOptions: ["visual", "audio"] };
const hits = await all(await client.search.query({ ...asked, pageLimit: 1 }));
assert.deepEqual(new Set(hits.map((h) => h.videoId)), both);
const groups = await all(await client.search.query({ ...asked, groupBy: "video" }));
assert.deepEqual(new Set(groups.map((g) => g.id)), both);
for (const media of [{ queryMediaFile: fs.createReadStream(image) }, { queryMediaUrl: imageUrl }]) {
  const pictured = await client.search.query({
    indexId: index.id, queryMediaType: "image", searchOptions: ["visual"], ...media,
  });
  assert.deepEqual(new Set((await all(pictured)).map((h) => h.videoId)), both);
}
await refused(client.search.query({ ...asked, queryText: " " }), 400);

const videoId = byFile.videoId;
if (old) {
  const gist = await client.gist({ videoId, types: ["title", "topic", "hashtag"] });
  assert.ok(gist.title && gist.topics && gist.hashtags);
  assert.ok((await client.summarize({ videoId, type: "summary" })).summary);
  assert.ok((await client.summarize({ videoId, type: "chapter" })).chapters[0].chapterTitle);
  assert.ok((await client.summarize({ videoId, type: "highlight" })).highlights[0].highlight);
}
const question = { prompt: "What text is shown?", ...(old ? { videoId } : { video: { type: "url", url: filmUrl } }) };
const answer = await client.analyze(question);
assert.match(answer.data, /Blue ship/);
let text = "";
for await (const event of await client.analyzeStream(question)) {
  if (event.eventType === "text_generation") text += event.text;
}
assert.equal(text, answer.data);

const modelName = old ? "Marengo-retrieval-2.7" : "marengo3.0";
assert.ok((await client.embed.create({ modelName, text: "a red car" })).textEmbedding.segments[0].float.length);
const picture = await client.embed.create({ modelName, imageFile: fs.createReadStream(image) });
assert.ok(picture.imageEmbedding.segments[0].float.length);
const sound = await client.embed.create({ modelName, audioUrl: filmUrl });
assert.ok(sound.audioEmbedding.segments[0].float.length);
const task = await client.embed.tasks.create({ modelName, videoFile: fs.createReadStream(film) });
const state = await client.embed.tasks.waitForDone(task.id, { sleepInterval: 0.5 });
assert.equal(state.status, "ready");
assert.ok((await all(await client.embed.tasks.list())).map((t) => t.id).includes(task.id));
const embeddingOption = [old ? "visual-text" : "visual", "audio"];
const vectors = await client.embed.tasks.retrieve(task.id, { embeddingOption });
assert.ok(vectors.videoEmbedding.segments[0].float.length);

if (client.assets) {
  const pause = () => new Promise((resolve) => setTimeout(resolve, 100));
  const asset = await client.assets.create({ method: "url", url: filmUrl });
  while ((await client.assets.retrieve(asset.id)).status !== "ready") await pause();
  const v2 = client.embed.v2;
  const words = { inputType: "text", modelName, text: { inputText: "Blue ship" } };
  assert.ok((await v2.create(words)).data[0].embedding.length);
  const wanted = { inputType: "video", modelName, video: { mediaSource: { assetId: asset.id } } };
  const later = await v2.tasks.create(wanted);
  let embedded = later;
  while (embedded.status !== "ready") {
    await pause();
    embedded = await v2.tasks.retrieve(later.id);
  }
  assert.deepEqual(embedded.data[0].embedding, (await v2.create(wanted)).data[0].embedding);
  assert.ok((await all(await v2.tasks.list())).map((t) => t.id).includes(later.id));
  assert.ok((await all(await client.assets.list())).map((a) => a.id).includes(asset.id));
  const heard = await v2.tasks.create({ inputType: "audio", modelName, audio: { mediaSource: { assetId: asset.id } } });
  for (embedded = heard; embedded.status !== "ready"; embedded = await v2.tasks.retrieve(heard.id)) await pause();
  assert.equal(embedded.data[0].embedding.length, (await v2.create(words)).data[0].embedding.length);
  const kept = async () => (await client.assets.retrieve(asset.id)).userMetadata;
  await client.assets.updateUserMetadata(asset.id, { userMetadata: { more: 1, other: "x" } });
  assert.deepEqual(await kept(), { more: 1, other: "x" });
  await client.assets.replaceUserMetadata(asset.id, { userMetadata: { only: true } });
  assert.deepEqual(await kept(), { only: true });
  await client.assets.deleteUserMetadata(asset.id);
  assert.equal(await kept(), undefined);
  const spoken = await client.assets.retrieveTranscription(asset.id, { include: ["sentences"] }).catch((error) => error);
  // A silent asset has a transcription without sentences, or today none at all.
  assert.ok(spoken.status === "ready" || spoken.statusCode === 404, String(spoken));
  const about = { prompt: question.prompt, video: { type: "asset_id", assetId: asset.id } };
  const { taskId } = await client.analyzeAsync.tasks.create({ ...about, modelName: "pegasus1.5" });
  let finished;
  while ((finished = await client.analyzeAsync.tasks.retrieve(taskId)).status !== "ready") await pause();
  assert.equal(finished.result.data, (await client.analyze(about)).data);
  const tasks = await client.analyzeAsync.tasks.list({ assetId: asset.id });
  assert.deepEqual(tasks.data.map((t) => t.taskId), [taskId]);
  await client.analyzeAsync.tasks.delete(taskId);
  await refused(client.analyzeAsync.tasks.retrieve(taskId), 404);
  const uploads = client.multipartUpload;
  const uploaded = await uploads.uploadFile(film);
  while ((await client.assets.retrieve(uploaded.assetId)).status !== "ready") await pause();
  const parts = await uploads.create({ filename: "film.mp4", type: "video", totalSize: 20 << 20 });
  const more = await uploads.getAdditionalPresignedUrls(parts.uploadId, { start: 2, count: 2 });
  assert.deepEqual(more.uploadUrls.map((u) => u.chunkIndex), [2, 3]);
  assert.equal((await all(await uploads.getStatus(parts.uploadId))).length, 3);
  assert.ok((await all(await uploads.listIncompleteUploads())).map((u) => u.uploadId).includes(parts.uploadId));
  const indexed = await client.indexes.indexedAssets.create(index.id, { assetId: asset.id });
  while ((await client.indexes.indexedAssets.retrieve(index.id, indexed.id)).status !== "ready") await pause();
  assert.deepEqual((await all(await client.indexes.indexedAssets.list(index.id))).map((a) => a.id), [indexed.id]);
  const inIndexes = await all(await client.indexes.indexedAssets.listByAsset(asset.id));
  assert.deepEqual(inIndexes.map((a) => a.id), [indexed.id]);
  await client.indexes.indexedAssets.update(index.id, indexed.id, { userMetadata: { number: 7 } });
  assert.equal((await client.indexes.indexedAssets.retrieve(index.id, indexed.id)).userMetadata.number, 7);
  await client.indexes.indexedAssets.delete(index.id, indexed.id);
  await client.assets.delete(asset.id);
}

await client.indexes.videos.delete(index.id, byUrl.videoId);
await client.tasks.delete(byUrl.id);
await client.indexes.delete(index.id);
await refused(client.indexes.retrieve(index.id), 404);
