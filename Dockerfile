FROM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -o /oncemill ./cmd/oncemill

FROM alpine:3.22
COPY --from=build /oncemill /oncemill
ENTRYPOINT ["/oncemill"]
