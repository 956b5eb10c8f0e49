//! A large file, up and down.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use futures_util::stream;
use tonic::transport::{Channel, Endpoint};
use whatsapp_gateway::contract::v1;
use whatsapp_gateway::contract::v1::gateway_service_client::GatewayServiceClient;

use super::{FILE_BYTES, Report};
use crate::Result;

/// Bytes of a chunk, as the contract advises.
const CHUNK_BYTES: usize = 256 * 1024;

async fn connect(address: SocketAddr) -> Result<GatewayServiceClient<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
    Ok(GatewayServiceClient::new(endpoint.connect().await?))
}

pub(super) async fn upload(address: SocketAddr) -> Result<Report> {
    let mut client = connect(address).await?;
    let part = |part| v1::UploadMediaRequest { part: Some(part) };
    let header = v1::UploadMediaHeader {
        mime_type: "application/pdf".to_owned(),
        filename: "catalogue.pdf".to_owned(),
        size_bytes: FILE_BYTES as u64,
        ..Default::default()
    };
    let chunk = Bytes::from(vec![0; CHUNK_BYTES]);
    let chunks = (0..FILE_BYTES).step_by(CHUNK_BYTES).map(move |at| {
        part(v1::upload_media_request::Part::Chunk(chunk.slice(..CHUNK_BYTES.min(FILE_BYTES - at))))
    });
    let header = part(v1::upload_media_request::Part::Header(header));
    let began = Instant::now();
    let uploaded =
        client.upload_media(stream::iter(std::iter::once(header).chain(chunks))).await?.into_inner();
    let took = began.elapsed();
    uploaded.result.ok_or("the upload has no result")?;
    Ok(Report::of_all(FILE_BYTES as u64, took))
}

pub(super) async fn download(address: SocketAddr) -> Result<Report> {
    let mut client = connect(address).await?;
    let request = v1::DownloadMediaRequest { media_id: "1037543291543636".to_owned(), ..Default::default() };
    let began = Instant::now();
    let mut stream = client.download_media(request).await?.into_inner();
    let mut bytes = 0;
    while let Some(response) = stream.message().await? {
        if let Some(v1::download_media_response::Part::Chunk(chunk)) = response.part {
            bytes += chunk.len();
        }
    }
    if bytes != FILE_BYTES {
        return Err(format!("{bytes} bytes came").into());
    }
    Ok(Report::of_all(bytes as u64, began.elapsed()))
}
