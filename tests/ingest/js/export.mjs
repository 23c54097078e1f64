// Export one trace with every kind of attribute, as a JavaScript application would.
// node export.mjs http|proto|grpc URL none|gzip
import { SpanKind, SpanStatusCode, TraceFlags, context, trace } from "@opentelemetry/api";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";

const [protocol, url, compression] = process.argv.slice(2);
const { OTLPTraceExporter } = await import(`@opentelemetry/exporter-trace-otlp-${protocol}`);
const exporter = new OTLPTraceExporter({ url, compression });
const provider = new BasicTracerProvider({
  resource: resourceFromAttributes({ "service.name": "js-shop" }),
  spanProcessors: [new BatchSpanProcessor(exporter)],
});
const tracer = provider.getTracer("js-tracer", "1.2.3");

const root = tracer.startSpan("GET /basket", {
  kind: SpanKind.SERVER,
  startTime: [1700000000, 123456789],
  attributes: {
    text: "žluťoučký",
    whole: 42,
    large: Number.MAX_SAFE_INTEGER,
    fraction: 2.5,
    yes: true,
    texts: ["a", "b"],
    numbers: [1, 2],
  },
  links: [{ context: { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331", traceFlags: TraceFlags.SAMPLED } }],
});
root.addEvent("cache miss", { key: "basket:7" }, [1700000000, 200000000]);
const child = tracer.startSpan("SELECT", { kind: SpanKind.CLIENT }, trace.setSpan(context.active(), root));
child.setStatus({ code: SpanStatusCode.ERROR, message: "deadlock" });
child.end();
root.end([1700000001, 0]);

await provider.forceFlush();
await provider.shutdown();
console.log(JSON.stringify({ trace: root.spanContext().traceId, root: root.spanContext().spanId }));
