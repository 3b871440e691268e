//! The file operations that a log writes with, as a seam: tests put a disk there that is full, broken,
//! or crashes. Reading needs no seam.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

/// What a log does to the disk. Every method has the meaning of the system call it is named after.
pub trait Disk: Send + Sync {
    /// Makes a file that does not exist yet (mode 0640).
    ///
    /// # Errors
    /// What the operating system says.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Renames a file, replacing what was there.
    ///
    /// # Errors
    /// What the operating system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes one folder (mode 0750); one that exists is left as it is.
    ///
    /// # Errors
    /// What the operating system says.
    fn make_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes what was created, renamed or removed in a folder survive a crash (`fsync`).
    ///
    /// # Errors
    /// What the operating system says.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// A file that is written from its beginning to its end.
pub trait DiskFile: Send {
    /// Appends.
    ///
    /// # Errors
    /// What the operating system says; then some of it may be written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Lengthens the file by zeros, at least so many bytes beyond what was appended; what is appended
    /// later replaces them. A sync of what replaces zeros has only data to write, no length and no
    /// place on the disk: that makes it more than twice as fast. A disk may leave this out.
    ///
    /// # Errors
    /// What the operating system says.
    fn reserve(&mut self, _bytes: u64) -> io::Result<()> {
        Ok(())
    }
    /// Makes what was appended survive a crash (`fdatasync`).
    ///
    /// # Errors
    /// What the operating system says; then nothing is known of what was appended.
    fn sync(&mut self) -> io::Result<()>;
}

/// The disk of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o640)
            .open(path)?;
        Ok(Box::new(RealFile {
            file,
            written: 0,
            length: 0,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o750).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

struct RealFile {
    file: File,
    /// How much was appended, in bytes.
    written: u64,
    /// How long the file is, with zeros at its end.
    length: u64,
}

impl DiskFile for RealFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.written)?;
        self.written += bytes.len() as u64;
        self.length = self.length.max(self.written);
        Ok(())
    }

    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        const ZEROS: [u8; 16 << 10] = [0; 16 << 10];
        let wanted = self.written + bytes;
        while self.length < wanted {
            let more = (wanted - self.length).min(ZEROS.len() as u64);
            let zeros = &ZEROS[..usize::try_from(more).unwrap_or(ZEROS.len())];
            self.file.write_all_at(zeros, self.length)?;
            self.length += more;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.file)?)
    }
}
